"""Style of all figures: sizes, fonts, colours, strings that can be drawn, and files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ..errors import InputError, nearest
from ..files.whole import write_whole

COLUMN = 3.3
"""Width in inches of one column of a two-column page."""
FULL = 6.9
"""Width in inches of the whole page."""

HEAT = "magma"  # maps over a picture
SHADE = "magma_r"  # text: light is low
NUMBERS = "viridis"  # tables of numbers
INK, QUIET = "#1a1a1a", "#5f5f5f"
TITLE, SMALL = 7.5, 6.0  # points
LINE = SMALL * 1.35 / 72  # inches from one small line of text to the next

CLIP = (1, 99)
"""Percentiles of a map's token values that become the ends of its colour scale."""

_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Symbols 2", "Noto Emoji",
)  # fmt: skip


@cache
def fonts() -> tuple[str, ...]:
    """The font that matplotlib brings along, then installed ones for scripts that it lacks."""
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed))


@contextmanager
def paper_style() -> Iterator[None]:
    """matplotlib's settings for a figure of a paper, inside the block only."""
    with matplotlib.rc_context(
        {
            "font.family": list(fonts()),
            "font.size": TITLE,
            "text.color": INK,
            "text.parse_math": False,  # names and tokens may hold dollar signs
            "axes.edgecolor": QUIET,
            "axes.linewidth": 0.5,
            "axes.titlesize": TITLE,
            "axes.labelsize": TITLE,
            "axes.labelcolor": INK,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "figure.facecolor": "white",
            "savefig.dpi": 300,
            "savefig.bbox": "standard",  # a figure is as large as it says
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "svg.fonttype": "path",
            "svg.hashsalt": "tokenrank",
        }
    ):
        yield


def scaled(values: npt.NDArray[np.floating], of: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float64]:
    """Values to 0 … 1, from the ``CLIP`` percentiles of ``of`` (the values themselves by default).

    Each map has its own scale: after one bounce and after eight the same token may hold a
    hundred times less, and shapes are what is compared. A constant map becomes 0.5.
    """
    of = values if of is None else of
    low, high = np.percentile(of, CLIP)
    if high - low <= 1e-6 * max(abs(high), 1e-30):  # nearly all equal: a few tokens may still stand out
        low, high = float(of.min()), float(of.max())
    if high - low <= 1e-6 * max(abs(high), 1e-30):
        return np.full(values.shape, 0.5)
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def coloured(share: npt.NDArray[np.floating], name: str) -> npt.NDArray[np.float64]:
    """Numbers 0 … 1 as RGB, (…, 3)."""
    return np.asarray(matplotlib.colormaps[name](share), dtype=np.float64)[..., :3]


def luminance(rgb: npt.NDArray[np.floating]) -> float:
    """How light a colour looks, 0 … 1."""
    return float(np.dot(rgb[..., :3], (0.2126, 0.7152, 0.0722)))


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

    glyphs: set[int] = set()
    for name in fonts():
        glyphs.update(get_font(findfont(FontProperties(family=[name]))).get_charmap())
    return frozenset(glyphs)


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


FORMATS = ("png", "pdf", "svg")

_MAKER = {"png": "Software", "pdf": "Creator", "svg": "Creator"}
_DATES = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def render(figure: Figure, form: str, maker: str = "tokenrank", dpi: int = 300) -> bytes:
    """The figure as the content of a file.

    Args:
        figure: any matplotlib figure.
        form: "png", "pdf" or "svg".
        maker: written into the file as the program that made it. No date is: the same figure
            gives the same bytes.
        dpi: pixels an inch of a png.

    Raises:
        InputError: another format.
    """
    if form not in FORMATS:
        raise InputError(f"no figure format {form!r}; {nearest(form, FORMATS)}")
    buffer = io.BytesIO()
    with paper_style():
        figure.savefig(buffer, format=form, dpi=dpi, metadata={_MAKER[form]: maker, **_DATES[form]})
    return buffer.getvalue()


def save(figure: Figure, stem: str | Path, formats: Sequence[str] = ("png",), dpi: int = 300) -> list[Path]:
    """Write ``stem.png``, ``stem.pdf``, ``stem.svg``, those that are asked for; existing files are replaced.

    Raises:
        InputError: another format.
    """
    stem = Path(stem)
    contents = {stem.with_name(f"{stem.name}.{form}"): render(figure, form, dpi=dpi) for form in formats}
    for path, content in contents.items():
        write_whole(path, content)
    return list(contents)
