"""What is said of layouts: readings in words, errors with their cure."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import LayoutError
from ...layout import Grid, TokenLayout

ONE_SAMPLE = "capture one sample at a time"


def ambiguous(num_tokens: int, readings: Sequence[TokenLayout]) -> LayoutError:
    """Several readings fit."""
    found = "; or ".join(describe(r) for r in readings)
    return LayoutError(f"ambiguous layout of {num_tokens} tokens: {found}; {cure(readings[0])}")


def describe(layout: TokenLayout) -> str:
    """Counts and grids: "1 cls + 24 image, 4 × 6 patches"."""
    grid = "".join(f", {times(g)} patches" for g in layout.grids.values())
    return " + ".join(f"{n} {name}" for name, n in layout.spans.items()) + grid


def cure(layout: TokenLayout) -> str:
    """What to do, with a layout that is ready to paste."""
    grids = f", {dict(layout.grids)}" if layout.grids else ""
    example = f"tr.TokenLayout({dict(layout.spans)}{grids})"
    return f"say which it is, for example trace.layout = {example} (or layout= to capture), or False for none"


def times(grid: Grid | tuple[int, ...]) -> str:
    """A grid in words: "4 × 6"."""
    return " × ".join(map(str, grid))


def numbered(name: str, place: int) -> str:
    """Span names of several of a kind: "image", "image_2", …, for ``place`` counted from 0."""
    return name if place == 0 else f"{name}_{place + 1}"
