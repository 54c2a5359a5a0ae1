"""Seed: how well a map finds the object when a point on it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import InputError
from ...layout import Point, at
from ...observation import Observation
from ..datasets.sample import Mask, Sample
from .saliency import Saliency

ROUNDING = 1e-9


@dataclass(frozen=True)
class Seed(Saliency):
    """``Saliency`` with a seed on the object.

    The seed is the middle of one patch: of those that are mostly object (or as much as any is), the one nearest to
    the object's centre of mass. Methods that walk start there; others ignore it, and the "_component" columns take
    the component that holds it for all of them, so that what the seed tells is told to all.
    """

    name: ClassVar[str] = "seed"
    gives: ClassVar[frozenset[str]] = frozenset({"nothing", "class", "seed"})

    def start(self, sample: Sample, observation: Observation) -> Point:
        """The middle of the seed's patch."""
        assert sample.mask is not None
        rows, columns = observation.grid
        row, column = seed_of(sample.mask, rows, columns)
        return at((column + 0.5) / columns, (row + 0.5) / rows)


def seed_of(mask: Mask, rows: int, columns: int) -> tuple[int, int]:
    """(row, column) of the patch, of those that are mostly object, that is nearest to the centre of mass.

    Where no patch is mostly object, those count that are so to the largest share. Of equally near ones the first in
    reading order.

    Raises:
        InputError: an empty mask.
    """
    if not mask.any():
        raise InputError("the mask is empty, so there is no seed on the object; leave the picture out")
    share = _down(_down(mask.astype(np.float64), rows).T, columns).T
    height, width = mask.shape
    y, x = (places.mean() for places in np.nonzero(mask))
    i = np.arange(rows)[:, None] - ((y + 0.5) / height * rows - 0.5)
    j = np.arange(columns) - ((x + 0.5) / width * columns - 0.5)
    # a patch that is object to one half, or two patches equally near, must not be told apart by rounding
    mostly = share >= min(0.5, float(share.max())) - ROUNDING
    place = int(np.where(mostly, np.round((i**2 + j**2) / ROUNDING), np.inf).argmin())
    return place // columns, place % columns


def _down(values: np.ndarray, count: int) -> np.ndarray:
    """Means of ``count`` equal parts along the first axis; a pixel that two parts share counts in both by its share."""
    edges = np.linspace(0, len(values), count + 1)
    totals = np.concatenate([np.zeros((1, *values.shape[1:])), values.cumsum(0)])
    below = np.floor(edges).astype(int)
    part = (edges - below)[:, None] * values[np.minimum(below, len(values) - 1)]
    return np.diff(totals[below] + part, axis=0) * count / len(values)
