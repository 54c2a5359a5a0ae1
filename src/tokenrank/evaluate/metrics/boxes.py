"""Boxes around objects: IoU, the box of a mask, and CorLoc."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import InputError, require
from .checks import boolean, plane

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels; x1 and y1 are the first column and row outside, as in PIL."""


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 … 1.

    Sides are x1 − x0 and y1 − y0. Annotations that name the last pixel inside (PascalVOC) get 1 added to
    x1 and y1 before they come here.

    Raises:
        InputError: a box that is not four finite numbers with x0 < x1 and y0 < y1.
    """
    a, b = _box(first), _box(second)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (_area(a) + _area(b) - shared)


def box_of(mask: np.ndarray, diagonal: bool = False) -> tuple[int, int, int, int] | None:
    """The box around the largest connected component; of equally large ones, the first in reading order.

    Args:
        mask: bool (H, W).
        diagonal: pixels that touch at a corner are connected too (8 neighbours in place of 4).

    Returns:
        (x0, y0, x1, y1), x1 and y1 the first column and row outside; None for an empty mask.

    Raises:
        InputError: a mask that is not bool (H, W).
        MissingExtraError: scipy is not installed.
    """
    plane("mask", boolean("mask", mask))
    ndimage = require("scipy.ndimage", "evaluate")
    labels, components = ndimage.label(mask, structure=np.ones((3, 3)) if diagonal else None)
    if components == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    rows, columns = ndimage.find_objects(labels)[int(sizes.argmax())]
    return columns.start, rows.start, columns.stop, rows.stop


def localised(found: Box | None, truths: Sequence[Box], threshold: float = 0.5) -> bool:
    """Whether the found box has an IoU of at least ``threshold`` with any true one.

    Args:
        found: None where the method found nothing: not localised.
        truths: all annotated boxes of the picture, at least one.
        threshold: in (0, 1].

    Raises:
        InputError: no true box, a box that is none, or a threshold beyond (0, 1].
    """
    if not truths:
        raise InputError("a picture has no true box, expected at least one; leave it out of CorLoc")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold = {threshold!r}, expected an IoU above 0, at most 1")
    overlaps = [box_iou(truth, found) if found is not None else 0.0 for truth in map(_box, truths)]
    return max(overlaps) >= threshold


def corloc(found: Sequence[Box | None], truths: Sequence[Sequence[Box]], threshold: float = 0.5) -> float:
    """CorLoc: the share of pictures whose found box has IoU ≥ 0.5 with any true box, 0 … 1.

    One box a picture, 0.5 itself counts as correct, and pictures without annotation are not part of the
    denominator [V, TokenCut].

    Args:
        found: a box or None for each picture.
        truths: the annotated boxes of each picture.
        threshold: smallest IoU that counts.

    Raises:
        InputError: no pictures, lists of different lengths, or as ``localised``.
    """
    if len(found) != len(truths) or not found:
        raise InputError(f"{len(found)} found boxes for {len(truths)} pictures, expected one each and at least one")
    return sum(localised(f, t, threshold) for f, t in zip(found, truths, strict=True)) / len(found)


def _box(box: Sequence[float]) -> Box:
    if len(box) != 4 or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"box {tuple(box)!r}, expected (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
