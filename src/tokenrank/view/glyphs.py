"""Which letters can be drawn: installed fonts, by what they contain, and a sign where no font has a letter."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib

from ..token_text import (
    has_right_to_left,
    is_cursive,
    is_right_to_left,
    is_shaping,
    mirrored,
    reading_order,
    visible,
)
from ..token_text import shortened as shortened

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry
    from matplotlib.ft2font import FT2Font

FIRST = "DejaVu Sans"  # comes with matplotlib
HOLLOW = "□"
_NO_CHARACTER = 0x10FFFE  # never one; fonts that have it draw signs for blocks, such as Last Resort
_INKLESS = {"Zs", "Cf", "Mn", "Me"}  # or ink that is only there on another letter
_NAMED = 3  # characters that a caption names


def drawable(text: str) -> str:
    """One line that the fonts at hand can draw: signs for white space and controls, □ for what no font has."""
    shown = visible(text)
    families = _families(frozenset(shown))
    return "".join(c if families[c] is not None else "" if is_shaping(c) else HOLLOW for c in shown)


def fonts(text: str = "") -> tuple[str, ...]:
    """Font families for a text: the one that matplotlib brings along, then those installed that have what it lacks.

    Which family draws a character depends on the character and on what is installed alone.
    """
    found = set(_families(frozenset(text)).values()) - {FIRST, None}
    return (FIRST, *(name for name in _others(_state()) if name in found)) if found else (FIRST,)


def glyph_notes(texts: Iterable[str]) -> list[str]:
    """What a caption has to say of texts: letters that no font here has, and what this matplotlib cannot lay out."""
    joined = "".join(map(visible, texts))
    found = _families(frozenset(joined))
    lacking = sorted(c for c in set(joined) if found[c] is None and not is_shaping(c))
    notes = []
    if lacking:
        count = sum(joined.count(c) for c in lacking)
        named = ", ".join(f"U+{ord(c):04X}" for c in lacking[:_NAMED]) + (", …" if len(lacking) > _NAMED else "")
        cures = ", ".join(sorted({_font_for(c) for c in lacking})[:_NAMED])
        them = (
            "1 character that no font here has is" if count == 1 else f"{count:,} characters that no font here has are"
        )
        notes.append(f"{them} drawn as {HOLLOW} ({named}): install a font that has them, such as {cures}")
    if any(map(is_cursive, joined)) and not _lays_out():
        version = matplotlib.__version__
        notes.append(
            f"letters that should join stand apart: matplotlib {version} does not join them, 3.11 and newer do"
        )
    return notes


def laid_out(text: str) -> str:
    """A string as it has to be given to this matplotlib, so that letters of every script stand in their order."""
    if _lays_out() or not has_right_to_left(text):
        return text
    letters: list[str] = []  # each with its marks
    for c in text:
        if letters and unicodedata.combining(c):
            letters[-1] += c
        else:
            letters.append(c)
    order = reading_order(letters, is_right_to_left([text]))
    return "".join(mirrored(letters[i]) if turned else letters[i] for i, turned in order)


def _lays_out() -> bool:
    """Whether matplotlib itself turns and joins letters (with libraqm, from 3.11 on)."""
    return matplotlib.__version_info__ >= (3, 11)


def _font_for(c: str) -> str:
    """A font that has such characters, by the first word of their names."""
    script = unicodedata.name(c, "").partition(" ")[0]
    if script in {
        "CJK",
        "HIRAGANA",
        "KATAKANA",
        "HANGUL",
        "BOPOMOFO",
        "KANGXI",
        "FULLWIDTH",
        "HALFWIDTH",
        "IDEOGRAPHIC",
    }:
        return "Noto Sans CJK"
    if unicodedata.category(c) in {"So", "Sk"}:
        return "Noto Emoji" if ord(c) >= 0x1F000 else "Noto Sans Symbols 2"
    return f"Noto Sans {script.title()}" if unicodedata.category(c)[0] in "LM" and script else "Noto Sans Symbols 2"


_State: TypeAlias = tuple[int, str]
_known: dict[tuple[str, _State], str | None] = {}


def _families(characters: frozenset[str]) -> dict[str, str | None]:
    """Character → the first family that has it; None where none has."""
    state = _state()
    asked = {c for c in characters if (c, state) not in _known}
    here = {c for c in asked if ord(c) in _first()}
    _known.update({(c, state): FIRST for c in here})
    asked -= here
    for name, entry in _others(state).items() if asked else ():
        here = _has(entry, asked)
        _known.update({(c, state): name for c in here})
        asked -= here
        if not asked:
            break
    _known.update({(c, state): None for c in asked})
    return {c: _known[c, state] for c in characters}


def _state() -> _State:
    """Changes when a font is added."""
    from matplotlib.font_manager import fontManager

    return len(fontManager.ttflist), fontManager.ttflist[-1].fname


@cache
def _first() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(FontProperties(family=[FIRST]))).get_charmap())


@cache
def _others(state: _State) -> dict[str, FontEntry]:
    """Family → the file that matplotlib takes for its upright, regular face; sans serif ones first."""
    from matplotlib.font_manager import fontManager

    entries: dict[str, FontEntry] = {}
    for entry in sorted(
        fontManager.ttflist, key=lambda e: (e.style != "normal", _off(e.weight), e.stretch != "normal")
    ):
        entries.setdefault(entry.name, entry)
    names = sorted(entries, key=lambda name: ("Noto Sans" not in name, "Sans" not in name, name))
    return {name: entries[name] for name in names if name != FIRST}


def _off(weight: str | int) -> float:
    return abs((weight if isinstance(weight, int) else 700 if "bold" in weight else 400) - 400)


def _has(entry: FontEntry, characters: set[str]) -> set[str]:
    """Which of the characters a font draws."""
    from matplotlib.ft2font import FT2Font

    face: dict[str, Any] = (
        {"face_index": entry.index} if getattr(entry, "index", 0) else {}
    )  # before 3.11 the first face is taken
    try:
        font = FT2Font(entry.fname, **face)
        if not font.scalable or font.get_char_index(_NO_CHARACTER):
            return set()
        font.set_size(12, 72)
        return {c for c in characters if font.get_char_index(ord(c)) and _has_ink(font, c)}
    except (OSError, RuntimeError):  # a broken file, or pictures only
        return set()


def _has_ink(font: FT2Font, c: str) -> bool:
    """Colour fonts know emoji, and leave no ink."""
    if unicodedata.category(c) in _INKLESS:
        return True
    left, low, right, high = font.load_char(ord(c)).bbox
    return right > left and high > low
