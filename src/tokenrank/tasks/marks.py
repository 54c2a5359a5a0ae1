"""Marks: where a label was started from, as a place of the picture, and drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..layout import Point

Box: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1: four whole numbers are pixels (x1, y1 beyond the box), anything else fractions from 0 to 1."""

Place: TypeAlias = "Point | int | str | Box | np.ndarray | Tensor"
"""A point, a patch's number, a span or a word, a box, or a bool mask of the picture (H, W)."""

Mark: TypeAlias = "Point | Box | np.ndarray | None"
"""A place that can be drawn: a point, a box in fractions, a bool mask (H, W); None for spans and words."""

SMALLEST = 48  # pixels of a side: on smaller pictures, such as one pixel a patch, a mark would hide the labels


def fractions(box: Box, size: tuple[int, int]) -> Box:
    """A box as fractions of width and height.

    Args:
        box: see ``Box``.
        size: (height, width) of the picture in pixels.

    Raises:
        InputError: no four numbers; outside the picture, or empty.
    """
    height, width = size
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in box)
    try:
        x0, y0, x1, y1 = (float(v) / s for v, s in zip(box, (width, height) * 2 if whole else (1,) * 4, strict=True))
    except (TypeError, ValueError):
        raise InputError(f"box {box!r}, expected four numbers x0, y0, x1, y1") from None
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        unit = f"pixels of a picture {width} wide and {height} high" if whole else "fractions of width and height"
        raise InputError(f"box {tuple(box)} in {unit}: expected 0 ≤ x0 < x1 and 0 ≤ y0 < y1, inside the picture")
    return x0, y0, x1, y1


def mark_of(place: Place, grid: tuple[int, int], size: tuple[int, int]) -> Mark:
    """A start as a mark; a patch is the box of its cell.

    Args:
        place: where a walk started, checked before.
        grid: (rows, columns) of the patches.
        size: (height, width) of the picture in pixels.
    """
    if isinstance(place, str):
        return None
    if isinstance(place, Point):
        return place
    if isinstance(place, tuple):
        return fractions(place, size)
    if isinstance(place, Tensor | np.ndarray):
        return np.asarray(place.cpu() if isinstance(place, Tensor) else place, dtype=bool)
    rows, columns = grid
    row, column = divmod(place % (rows * columns), columns)
    return column / columns, row / rows, (column + 1) / columns, (row + 1) / rows


def with_marks(pixels: np.ndarray, marks: Sequence[Mark], colours: np.ndarray) -> np.ndarray:
    """Marks drawn on a picture: a disc, a frame or an outline, each in its colour within a white rim.

    Args:
        pixels: (H, W, 3), 0 … 255.
        marks: of the labels from 1 on.
        colours: (≥ marks, 3), 0 … 255; used again from the first on where there are more marks.

    Returns:
        float64 (H, W, 3).
    """
    drawn = np.asarray(pixels, dtype=np.float64).copy()
    height, width = drawn.shape[:2]
    if min(height, width) < SMALLEST:
        return drawn
    unit = max(1.0, max(height, width) / 300)  # of the lines
    for place, mark in enumerate(marks):
        colour = colours[place % len(colours)]
        if isinstance(mark, Point):
            _disc(drawn, mark.x * width, mark.y * height, unit, colour)
        elif isinstance(mark, tuple):
            for line, paint in ((1.9 * unit, 255.0), (0.9 * unit, colour)):
                _frame(drawn, mark, max(1, round(line)), paint)
        elif mark is not None:
            for line, paint in ((1.9 * unit, 255.0), (0.9 * unit, colour)):
                drawn[_near_edge(mark, max(1, round(line)))] = paint
    return drawn


def _disc(drawn: np.ndarray, x: float, y: float, unit: float, colour: np.ndarray) -> None:
    """A disc within a white ring within a thin black one, around a point in pixels."""
    reach = int(8 * unit)
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    part = drawn[top : int(y) + reach + 1, left : int(x) + reach + 1]
    rows, columns = np.arange(part.shape[0])[:, None] + top + 0.5, np.arange(part.shape[1]) + left + 0.5
    distance = np.hypot(columns - x, rows - y)
    for radius, paint in ((6.2 * unit, 0.0), (5.2 * unit, 255.0), (3.4 * unit, colour)):
        _paint(part, np.clip(radius - distance + 0.5, 0, 1), paint)


def _paint(drawn: np.ndarray, cover: np.ndarray, paint: np.ndarray | float) -> None:
    drawn += cover[..., None] * (paint - drawn)


def _frame(drawn: np.ndarray, box: Box, reach: int, paint: np.ndarray | float) -> None:
    """A frame ``reach`` pixels to both sides of a box's edges."""
    height, width = drawn.shape[:2]
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (width, height) * 2, strict=True))
    rows, columns = slice(max(0, y0 - reach), y1 + reach), slice(max(0, x0 - reach), x1 + reach)
    for y in (y0, y1):
        drawn[max(0, y - reach) : y + reach, columns] = paint
    for x in (x0, x1):
        drawn[rows, max(0, x - reach) : x + reach] = paint


def _near_edge(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with both sides of a mask's edge in a square of ``reach`` pixels around them, by sums of the mask."""
    inside = _sums(_sums(mask.astype(np.int32), reach, 0), reach, 1)
    down, across = (_sums(np.ones(count, np.int32), reach, 0) for count in mask.shape)
    around = down[:, None] * across
    return np.asarray((inside > 0) & (inside < around))


def _sums(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Sums over ``reach`` neighbours on both sides, fewer at the ends."""
    count = values.shape[axis]
    total = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
    place = np.arange(count)
    high, low = np.minimum(place + reach + 1, count), np.maximum(place - reach, 0)
    return total.take(high, axis) - total.take(low, axis)
