"""Where in a picture a walk starts: points, boxes and masks as shares of the patches."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..layout import Point

Box: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1: four whole numbers are pixels (x1, y1 beyond the box), anything else fractions from 0 to 1."""

Place: TypeAlias = "Point | int | str | Box | np.ndarray | Tensor"
"""A point, a patch's number, a span or a word, a box, or a bool mask of the picture (H, W)."""


def box_share(box: Box, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A box as a distribution over patches, (P,): each by the area of it that the box covers.

    Args:
        box: see ``Box``.
        grid: (rows, columns).
        size: (height, width) of the picture in pixels.

    Raises:
        InputError: outside the picture, or empty.
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
    shares = _overlap(y0, y1, grid[0])[:, None] * _overlap(x0, x1, grid[1])
    return (shares / shares.sum()).flatten()


def mask_share(mask: np.ndarray | Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A bool mask (H, W) as a distribution over patches, (P,): each by the share of it that is inside.

    Raises:
        InputError: another type or size than the picture's, or empty.
    """
    given = torch.as_tensor(mask)
    if given.dtype != torch.bool or tuple(given.shape) != size:
        raise InputError(
            f"the mask has shape {tuple(given.shape)} and type {given.dtype}, expected bool {size}: one entry a pixel"
        )
    if not bool(given.any()):
        raise InputError("the mask is empty, expected one pixel inside at least")
    shares = F.adaptive_avg_pool2d(given.double()[None], grid).flatten()
    return shares / shares.sum()


def _overlap(begin: float, end: float, count: int) -> Tensor:
    """How much of each of ``count`` equal parts of the unit interval lies between two fractions."""
    edges = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    return (edges[1:].clamp(max=end) - edges[:-1].clamp(min=begin)).clamp(min=0)
