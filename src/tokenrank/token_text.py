"""Tokens as a reader sees them: without the marks of tokenizers, bytes as characters, what has no ink as a sign."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣", "\u00a0": "⍽"}
_CONTROLS = (
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI", "DLE",
    "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
)  # fmt: skip
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a byte of a SentencePiece tokenizer, for characters that it lacks
_JOINERS = {"\u200c", "\u200d"}
_RIGHT_TO_LEFT = {"R", "AL"}
_MIRRORS = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")


def readable(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    """Tokens for the eye: (text on one line, whether a space stands before it).

    The marks of sub-word tokenizers go: ``Ġ`` and ``▁`` (a space before), ``##`` (none before), ``</w>`` (a space
    after). Bytes become characters again; the parts of one that was cut into three are "猫 1/3", "猫 2/3" and
    "猫 3/3". White space, control characters and others without ink become signs (``visible``).
    """
    byte_level = _is_byte_level(tokens)
    begins = byte_level or any(token.startswith("▁") for token in tokens)
    ends = any(token.endswith("</w>") for token in tokens)
    raw = [_raw_bytes(token, byte_level) for token in tokens]
    plain = _decoded(tokens, raw)
    result = []
    after_end = True
    for token, own, text in zip(tokens, raw, plain, strict=True):
        if ends:
            spaced, after_end = after_end, token.endswith("</w>") or _is_special(token)
            text = text.removesuffix("</w>")
        elif begins:
            spaced = text.startswith(" ") or ((own is None or byte_level) and _is_special(token))
        else:
            spaced = not text.startswith("##")
            text = text.removeprefix("##") if len(text) > 2 else text
        result.append((visible(text.removeprefix(" ") if len(text) > 1 else text) or "∅", spaced))
    return result


def letters(tokens: Sequence[str], like: Sequence[str] = ()) -> list[tuple[str, tuple[int, ...], bool]]:
    """The text that tokens stand for: (character, indices of tokens that hold it, whether a space stands before it).

    Several tokens hold a character whose bytes they share; a token that is nothing but the space before it is one of
    them. Spaces are no characters.

    Args:
        tokens: of one text, in order, without special tokens.
        like: more tokens of the same tokenizer, whose marks tell how spaces are written where ``tokens`` have none.
    """
    ends, byte_level, begins = _marks(tokens) if any(_marks(tokens)) else _marks(like)
    stream: list[tuple[bytes | str, int]] = []
    for i, token in enumerate(tokens):
        text = token.removesuffix("</w>") if ends else token
        raw = _raw_bytes(text, byte_level)
        if not (ends or begins or byte_level):
            stream += [] if text.startswith("##") and len(text) > 2 else [(" ", i)]
            text = text.removeprefix("##") if len(text) > 2 else text
        stream += [(bytes([b]), i) for b in raw] if raw is not None else [(c, i) for c in text.replace("▁", " ")]
        stream += [(" ", i)] if ends and token.endswith("</w>") else []
    found: list[tuple[str, tuple[int, ...], bool]] = []
    place, space = 0, -1  # the token that the space before a character is in
    spaced, full = True, set[int]()
    while place < len(stream):
        begin = b""
        for item, _ in stream[place : place + 4]:
            if isinstance(item, str):
                break
            begin += item
        character, size = _character(begin) if begin else (str(stream[place][0]), 1)
        owners = list(dict.fromkeys(i for _, i in stream[place : place + size]))
        if character.isspace():
            spaced, space = True, owners[-1]
        else:
            alone = spaced and not ends and space >= 0 and space not in full and space not in owners
            found.append((character, tuple([space, *owners] if alone else owners), spaced))
            full.update(owners)
            spaced, space = False, -1
        place += size
    return found


def _marks(tokens: Sequence[str]) -> tuple[bool, bool, bool]:
    """Whether words end in ``</w>``, characters stand for bytes, words begin with ``▁``."""
    ends = any(token.endswith("</w>") for token in tokens)
    return ends, _is_byte_level(tokens), any(token.startswith("▁") for token in tokens)


def visible(text: str) -> str:
    """One line in which everything can be seen: ⏎ ⇥ ␣ for white space that stands alone or at an end, ⟨ESC⟩ for control
    characters, ⟨U+202E⟩ for others without ink.

    Joiners and variation selectors stay where they follow something, since they shape it.
    """
    inner = text.strip(" \u00a0")
    before, after = (text[: len(text) - len(text.lstrip(" \u00a0"))], text[len(text.rstrip(" \u00a0")) :])
    if not inner:
        before, after = text, ""
    shown = [_sign(c, place > 0) for place, c in enumerate(inner)]
    return _repeated("".join(_SIGNS[c] for c in before)) + _repeated("".join(shown)) + "".join(_SIGNS[c] for c in after)


def shortened(text: str, length: int) -> str:
    """At most ``length`` characters: the middle goes, since names differ at their ends."""
    if len(text) <= length:
        return text
    kept = max(length - 1, 2)
    return text[: kept // 2] + "…" + text[-(kept - kept // 2) :]


def is_right_to_left(texts: Iterable[str]) -> bool:
    """Whether a paragraph runs from the right: its first letter is of such a script (Unicode's rules P2 and P3)."""
    kinds = (kind for text in texts if not _is_special(text) for kind in map(unicodedata.bidirectional, text))
    return next((kind in _RIGHT_TO_LEFT for kind in kinds if kind == "L" or kind in _RIGHT_TO_LEFT), False)


def is_shaping(c: str) -> bool:
    """Whether a character only shapes those beside it: joiners, variation selectors, tags of flags."""
    return c in _JOINERS or "\ufe00" <= c <= "\ufe0f" or 0xE0020 <= ord(c) <= 0xE01EF


def has_right_to_left(text: str) -> bool:
    """Whether some letter is of a script that runs from the right."""
    return any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text)


def reading_order(texts: Sequence[str], right_to_left: bool) -> list[tuple[int, bool]]:
    """Which token stands where on a line, from the left: (index into ``texts``, whether it runs from the right).

    Args:
        texts: tokens of one line, in the order in which they are read.
        right_to_left: of the paragraph.

    Source: Unicode Standard Annex 9, with a token where it has a character: rules W4 to W7 (numbers stay together),
    N1 and N2 (what has no direction takes that of both its neighbours, or the paragraph's), L2 (runs are turned). What
    stands within a token is left to whoever draws it.
    """
    own = [_direction(text) for text in texts]
    base = "R" if right_to_left else "L"
    sides = [base] * len(own)
    last = base
    for i, kind in enumerate(own):  # numbers: where they stand among letters of the other side they still run right
        last = kind if kind in "LR" else last
        sides[i] = last if kind == "N" and last == "L" else kind
    levels = []
    for i, side in enumerate(sides):
        if side == "":
            before = next((_strong(s) for s in reversed(sides[:i]) if s), base)
            behind = next((_strong(s) for s in sides[i + 1 :] if s), base)
            between_numbers = 0 < i < len(sides) - 1 and sides[i - 1] == sides[i + 1] == "N"
            side = "N" if between_numbers and texts[i] in {".", ",", ":", "/"} else before if before == behind else base
        levels.append({"L": 2 if right_to_left else 0, "R": 1, "N": 2}[side])
    order = list(range(len(texts)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            if levels[order[start]] < level:
                start += 1
                continue
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end
    return [(i, levels[i] == 1) for i in order]


def joined(texts: Sequence[str], spaced: Sequence[bool]) -> list[str]:
    """Tokens whose letters keep the forms that they have within their word, where a word falls apart into several."""
    shown = list(texts)
    for i in range(1, len(shown)):
        if not spaced[i] and is_cursive(texts[i - 1][-1:]) and is_cursive(texts[i][:1]):
            shown[i - 1] += "\u200d"
            shown[i] = "\u200d" + shown[i]
    return shown


def is_cursive(letter: str) -> bool:
    """Whether a letter is of a script whose letters join, such as Arabic."""
    return letter != "" and unicodedata.bidirectional(letter) == "AL"


def mirrored(text: str) -> str:
    """Brackets turned, as they are where a line runs from the right."""
    return text.translate(_MIRRORS)


def _strong(side: str) -> str:
    return "R" if side == "N" else side  # N1: numbers count as from the right


def _direction(text: str) -> str:
    """ "L", "R", "N" for a number, "" for what has none; of several letters the first counts."""
    kinds = [unicodedata.bidirectional(c) for c in text]
    strong = next((k for k in kinds if k == "L" or k in _RIGHT_TO_LEFT), None)
    if strong is not None:
        return "L" if strong == "L" else "R"
    return "N" if any(k in {"EN", "AN"} for k in kinds) else ""


def _sign(c: str, follows: bool) -> str:
    if c in _SIGNS and c not in " \u00a0":
        return _SIGNS[c]
    if (c.isprintable() and not is_shaping(c)) or (follows and is_shaping(c)) or c == "\u00a0":
        return c
    if ord(c) < len(_CONTROLS):
        return f"⟨{_CONTROLS[ord(c)]}⟩"
    return f"⟨U+{ord(c):04X}⟩"


def _repeated(signs: str) -> str:
    """Signs of white space more than three times in a row are counted."""
    return re.sub(r"([⏎⇥␣⍽])\1{3,}", lambda found: f"{found[1]}×{len(found[0])}", signs)


def _is_special(token: str) -> bool:
    return len(token) > 2 and (token[0] + token[-1]) in ("<>", "[]")


def _is_byte_level(tokens: Sequence[str]) -> bool:
    """Whether characters stand for bytes: Ġ and Ċ do where a space and a line break are, and without any the characters
    are only taken as bytes where these make letters."""
    words = [token for token in tokens if not _is_special(token)]
    if any(token.startswith(("Ġ", "Ċ", "ĉ")) for token in words):
        return True
    table = _byte_of()
    letters = "".join(words)
    if letters.isascii() or not all(c in table for c in letters):
        return False
    try:
        bytes(table[c] for c in letters).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _raw_bytes(token: str, byte_level: bool) -> bytes | None:
    """The bytes that a token stands for; None where it stands for itself."""
    if byte_level:
        table = _byte_of()
        return bytes(table[c] for c in token) if token and all(c in table for c in token) else None
    found = _BYTE.fullmatch(token)
    return None if found is None else bytes([int(found[1], 16)])


def _decoded(tokens: Sequence[str], raw: Sequence[bytes | None]) -> list[str]:
    """Text of every token; the parts of a cut character are counted."""
    texts = [token.replace("▁", " ") if own is None else "" for token, own in zip(tokens, raw, strict=True)]
    start = 0
    while start < len(tokens):
        end = start + 1
        if raw[start] is not None:
            while end < len(tokens) and raw[end] is not None:
                end += 1
            _spread(texts, raw, start, end)
        start = end
    return texts


def _spread(texts: list[str], raw: Sequence[bytes | None], start: int, end: int) -> None:
    """Characters of the bytes of the tokens from ``start`` to ``end``, each into the tokens that hold its bytes."""
    owner = [i for i in range(start, end) for _ in raw[i] or b""]
    stream = b"".join(raw[i] or b"" for i in range(start, end))
    place = 0
    while place < len(stream):
        character, size = _character(stream[place : place + 4])
        owners = list(dict.fromkeys(owner[place : place + size]))
        for part, token in enumerate(owners):
            texts[token] += character if len(owners) == 1 else f"{character} {part + 1}/{len(owners)}"
        place += size


def _character(begin: bytes) -> tuple[str, int]:
    """The first character of some bytes, and how many it takes; a byte that begins none as ⟨E6⟩."""
    for size in range(1, len(begin) + 1):
        try:
            return begin[:size].decode("utf-8"), size
        except UnicodeDecodeError:
            continue
    return f"⟨{begin[0]:02X}⟩", 1


@cache
def _byte_of() -> dict[str, int]:
    """Character → byte of the byte-level tokenizers (GPT-2 and its kin).

    Printable Latin-1 bytes stand for themselves, the other 68 for the characters from 256 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}
