"""Tokens of a text for the page: as a reader sees them, which of them are one word, and which are special."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from ..layout import TokenLayout
from ..token_text import readable, shortened

LONGEST = 400
"""Characters of one token that a page shows; of longer ones the middle is left out."""

_SPECIAL_SPANS = ("cls", "registers", "distillation", "detection", "sink", "padding")
_NO_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def special_tokens(layout: TokenLayout | None) -> list[int]:
    """CLS, SEP, BOS, registers, sinks and padding, increasing; beside a picture tokens without a name, too."""
    if layout is None:
        return []
    known = {*_SPECIAL_SPANS, "other"} if layout.grids else set(_SPECIAL_SPANS)
    spans = [name for name in layout.spans if name.rpartition("_")[0] in known or name in known]
    return sorted({*layout.special, *(i for name in spans for i in layout.indices(name))})


def tokens_json(layout: TokenLayout) -> list[dict[str, Any]] | None:
    """A ``Token`` of the page for every token; None where the layout has no strings.

    Patches beside a text have no text; their name says where they are.
    """
    if layout.tokens is None and not layout.seconds:
        return None
    names = _places(layout)
    if layout.tokens is None:  # the frames of a sound, and what fills up its window
        spans = {i: name for name in layout.spans for i in layout.indices(name)}
        return [{"text": "", "space": False, "name": names.get(i, spans[i])} for i in range(layout.num_tokens)]
    spelled = [i for i in range(layout.num_tokens) if i not in names]
    known = dict(zip(spelled, readable([layout.tokens[i] for i in spelled]), strict=True))
    result = []
    for i in range(layout.num_tokens):
        text, space = known.get(i, ("", False))
        text = shortened(text, LONGEST)
        result.append({"text": text, "space": space, "name": names.get(i, text)})
    return result


def words_json(tokens: Sequence[dict[str, Any]] | None, special: Sequence[int]) -> list[dict[str, Any]]:
    """The ``Word``s of the page: runs of tokens that are read as one, special tokens and signs for themselves.

    A token goes on with the word before it where no space is between them and letters or digits meet; scripts without
    spaces have a word a token, since where words end is not written there. The parts of one character are together.
    """
    words: list[dict[str, Any]] = []
    alone = set(special)
    for i, token in enumerate(tokens or ()):
        before = tokens[i - 1] if tokens and i else None
        joins = before is not None and not token["space"] and i not in alone and i - 1 not in alone
        if joins and before is not None and token["text"] and _goes_on(before["text"], token["text"]):
            begun = _spelled(words[-1]["text"]) if words[-1]["count"] == 1 else words[-1]["text"]
            added = "" if _part(token["text"]) > 1 else _spelled(token["text"])
            words[-1]["count"] += 1
            words[-1]["text"] = shortened(begun + added, LONGEST)
        elif token["text"]:
            words.append({"text": token["text"], "first": i, "count": 1})
    return words


def _places(layout: TokenLayout) -> dict[int, str]:
    """Names of patches and frames, which no string tells."""
    names: dict[int, str] = {}
    for span, grid in layout.grids.items():
        columns = grid[-1]
        for cell, i in enumerate(layout.indices(span)):
            names[i] = f"row {cell // columns + 1}, column {cell % columns + 1}"
    for span in layout.seconds:
        for i, begin in zip(layout.indices(span), layout.times(span), strict=True):
            names[i] = f"{begin:.2f} s"
    return names


def _goes_on(before: str, after: str) -> bool:
    """Whether two tokens without a space between them are one word."""
    if _part(before) and _part(after):
        return _part(after) != 1 and before[0] == after[0]
    first, last = after[0], before[-1]
    if not (_is_letter(first) and _is_letter(last)):
        return unicodedata.category(first).startswith("M") or (after == "'" or before == "'")
    return not (_is_without_spaces(first) or _is_without_spaces(last))


def _part(text: str) -> int:
    """Which part of a character that was cut a token is, as ``token_text.readable`` writes it: 2 of "猫 2/3"; or 0."""
    head, _, tail = text.partition(" ")
    number, slash, _ = tail.partition("/")
    return int(number) if len(head) == 1 and slash and number.isdecimal() and number.isascii() else 0


def _spelled(text: str) -> str:
    """What a token adds to its word: of one that is part of a character, that character."""
    return text[0] if _part(text) else text


def _is_letter(c: str) -> bool:
    return c.isalnum() or unicodedata.category(c).startswith("M") or c == "_"


def _is_without_spaces(c: str) -> bool:
    return ord(c) > 0x0E00 and unicodedata.name(c, "").startswith(_NO_SPACES)
