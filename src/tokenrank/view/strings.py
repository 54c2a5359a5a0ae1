"""Strings from outside (tokens, names of models and layers), made fit to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from .style import fonts

_VISIBLE = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": " "}


def drawable(text: str) -> str:
    """One line that the fonts at hand can draw: line breaks become signs, unknown glyphs escapes."""
    return "".join(_VISIBLE.get(c) or (c if c.isprintable() and ord(c) in _glyphs() else _escape(c)) for c in text)


def shortened(text: str, length: int) -> str:
    """At most ``length`` characters: the middle goes, since names differ at their ends."""
    if len(text) <= length:
        return text
    kept = max(length - 1, 2)
    return text[: kept // 2] + "…" + text[-(kept - kept // 2) :]


def readable_tokens(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    """Tokens for the eye: (drawable text, whether a space stands before it).

    The marks of sub-word tokenizers go: ``Ġ`` and ``▁`` (a space before), ``##`` (none before),
    ``</w>`` (a space after). Tokens of byte-level tokenizers are turned back into characters.
    """
    byte_level = any("Ġ" in token or "Ċ" in token for token in tokens)
    begins = any(token.startswith("▁") for token in tokens) or byte_level
    ends = any(token.endswith("</w>") for token in tokens)
    result = []
    after_end = True
    for token in tokens:
        text = _from_bytes(token) if byte_level else token.replace("▁", " ")
        if ends:
            spaced, after_end = after_end, token.endswith("</w>") or _is_special(token)
            text = text.removesuffix("</w>")
        elif begins:
            spaced = text.startswith(" ") or _is_special(token)
        else:
            spaced = not text.startswith("##")
            text = text.removeprefix("##") if len(text) > 2 else text
        result.append((drawable(text.removeprefix(" ") if len(text) > 1 else text) or "∅", spaced))
    return result


def _is_special(token: str) -> bool:
    return len(token) > 2 and (token[0] + token[-1]) in ("<>", "[]")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    found: set[int] = set()
    for name in fonts():
        found.update(get_font(findfont(FontProperties(family=[name]))).get_charmap())
    return frozenset(found)


@cache
def _byte_of() -> dict[str, int]:
    """Character → byte of the byte-level tokenizers (GPT-2 and its kin).

    Printable Latin-1 bytes stand for themselves, the other 68 for the characters from 256 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _from_bytes(token: str) -> str:
    table = _byte_of()
    if not all(c in table for c in token):
        return token
    raw = bytes(table[c] for c in token)
    return raw.decode("utf-8", "backslashreplace")
