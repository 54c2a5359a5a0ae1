"""Arrangement of panels of one shape on a page: a strip, rows, or one below the other; never stretched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP, GROUP_GAP, HEAD, MARGIN = 0.05, 0.08, 0.30, 0.04  # inches
SIDE = 0.78  # of the titles beside panels that stand one below the other
SHORTEST = 0.36  # a panel lower than that is not looked at: fewer stand side by side then
TALLEST, PAGE = 3.2, 5.5  # of one panel, and of all rows of panels together
STRIP = 9  # panels in one row at most


@dataclass(frozen=True)
class Arrangement:
    """Where panels stand, in inches from the page's top left.

    Attributes:
        places: (left, top) of every panel.
        width, height: of a panel.
        beside: whether titles stand to the left of panels, rather than above.
        end: where the last row ends.
    """

    places: tuple[tuple[float, float], ...]
    width: float
    height: float
    beside: bool
    end: float


def arrange(count: int, slope: float, width: float, groups: Sequence[int] = ()) -> Arrangement:
    """Panels on a page: as many in a row as leave a panel high enough to be seen.

    Args:
        count: number of panels.
        slope: a panel's height over its width, kept exactly.
        width: of the page, inches.
        groups: places of panels that a wider gap stands before, where all panels stand in one row.
    """
    widest = count if width > 5 and count <= STRIP else 4
    choices = [columns for columns in (widest, 4, 2) if columns <= max(widest, 2)]
    for columns in choices:
        gaps = groups if columns == count else ()
        cell = (width - 2 * MARGIN - (columns - 1) * GAP - len(gaps) * GROUP_GAP) / columns
        rows = -(-count // columns)
        across = min(cell, min(TALLEST, PAGE / rows) / slope)
        if across * slope >= SHORTEST:
            return _in_rows(count, columns, cell, across, slope, gaps)
    across = min(width - 2 * MARGIN - SIDE, TALLEST / slope)
    step = max(across * slope, 0.24) + GAP  # two lines of a title fit
    low = (step - GAP - across * slope) / 2
    places = tuple((MARGIN + SIDE, MARGIN + i * step + low) for i in range(count))
    return Arrangement(places, across, across * slope, True, MARGIN + count * step)


def _in_rows(count: int, columns: int, cell: float, across: float, slope: float, gaps: Sequence[int]) -> Arrangement:
    step, places = HEAD + across * slope, []
    for place in range(count):
        row, column = divmod(place, columns)
        wider = sum(place >= gap for gap in gaps) * GROUP_GAP
        left = MARGIN + column * (cell + GAP) + wider + (cell - across) / 2
        places.append((left, row * step + HEAD))
    return Arrangement(tuple(places), across, across * slope, False, -(-count // columns) * step)
