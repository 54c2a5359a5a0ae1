"""One look for all figures: sizes, fonts, colours, and how values become colours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib
import numpy as np
import numpy.typing as npt

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
