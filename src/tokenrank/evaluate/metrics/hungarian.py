"""Segments without names against classes: the best one-to-one assignment, and the figures under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import InputError, NotFoundError, nearest, require
from .checks import array, integer, same_shape

Spare = Literal["assigned", "unassigned"]
SPARE = ("assigned", "unassigned")


@dataclass(frozen=True, eq=False)
class Matches:
    """Pixels per class after the assignment; sums over pictures by +.

    Attributes:
        tp: int64 (classes,), in the segment assigned to their class.
        fp: int64 (classes,), of other classes in that segment.
        fn: int64 (classes,), elsewhere.
        labelled: pixels with a class.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    labelled: int

    def __add__(self, other: Matches) -> Matches:
        if self.tp.shape != other.tp.shape:
            raise InputError(f"{other.tp.size} classes added to {self.tp.size}, expected the same classes")
        return Matches(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.labelled + other.labelled)


def histogram(found: np.ndarray, labels: np.ndarray, classes: int, clusters: int | None = None) -> np.ndarray:
    """Labelled pixels by class and segment.

    Args:
        found: integers (H, W), segments numbered 0, 1, …
        labels: integers (H, W), the class of each pixel, 0 … classes − 1, or −1 where unlabelled.
        classes: number of classes.
        clusters: number of segments; a fixed one makes histograms of many pictures addable. None: as many as
            the largest number in ``found`` asks for, but at least ``classes``, DiffSeg's shape [V].

    Returns:
        int64 (classes, segments).

    Raises:
        InputError: shapes differ, no integers, a label beyond the classes, a segment beyond ``clusters``.
    """
    if classes < 1:
        raise InputError(f"classes = {classes}, expected at least one")
    segments, truth = integer("found", found), integer("labels", labels, smallest=-1)
    same_shape(found=found, labels=labels)
    if truth.max() >= classes:
        raise InputError(
            f"labels has the class {truth.max()}, expected at most {classes - 1}, and −1 for pixels that do not count"
        )
    width = max(classes, int(segments.max()) + 1) if clusters is None else clusters
    if segments.max() >= width:
        raise InputError(f"found has the segment {segments.max()}, expected at most {width - 1} for {width} clusters")
    known = truth >= 0
    return np.bincount(truth[known] * width + segments[known], minlength=classes * width).reshape(classes, width)


def assign(histogram: np.ndarray, spare: Spare = "assigned") -> np.ndarray:
    """The segment of each class, no segment twice, that gets the most pixels right (Hungarian algorithm, scipy).

    Args:
        histogram: integers (classes, segments); fewer segments than classes are filled up with empty ones.
        spare: what becomes of classes that share no pixel with the segment they get. "assigned": they keep it.
            "unassigned": they get none.

    Returns:
        int64 (classes,), −1 for a class without a segment.

    Raises:
        InputError: no table of counts.
        NotFoundError: no such ``spare``.
        MissingExtraError: scipy is not installed.
    """
    if spare not in SPARE:
        raise NotFoundError(f"no treatment of spare segments {spare!r}; {nearest(spare, SPARE)}")
    table = _padded(histogram)
    rows, columns = require("scipy.optimize", "evaluate").linear_sum_assignment(table, maximize=True)
    if spare == "unassigned":
        columns = np.where(table[rows, columns] > 0, columns, -1)
    return columns.astype(np.int64)


def match_histogram(histogram: np.ndarray, spare: Spare = "assigned") -> Matches:
    """Counts per class under the best assignment.

    A sum of histograms over a data set gives the data-set-level matching of PiCIE and STEGO, where a cluster
    means the same in every picture [V]. With more clusters than classes STEGO also counts the left-over
    clusters as one more class, of IoU 0, in its mean [V]; that is not done here.

    Args:
        histogram: integers (classes, segments).
        spare: see ``match``.

    Raises:
        InputError, NotFoundError, MissingExtraError: as ``assign``.
    """
    table = _padded(histogram)
    chosen = assign(table, spare)
    held = chosen >= 0
    tp = np.where(held, table[np.arange(len(table)), chosen], 0)
    taken = np.where(held, table.sum(0)[chosen], 0)
    return Matches(tp, taken - tp, table.sum(1) - tp, int(table.sum()))


def match(found: np.ndarray, labels: np.ndarray, classes: int, spare: Spare = "assigned") -> Matches:
    """One picture's segments matched to the classes, as DiffSeg scores; sum the results over the data set.

    The histogram is classes × max(classes, segments) and the assignment maximises the pixels that are right
    [V]. Its quirk: every class gets a segment, so spare segments go to classes that do not occur in the picture,
    by arbitrary ties, and count as false positives there; a segment beyond the number of classes adds false
    negatives only. ``spare="unassigned"`` is the strict variant: a pair that shares no pixel is no pair, so a
    spare segment adds false negatives only. Accuracy is the same in both; the mean IoU is not.

    Args:
        found: integers (H, W), segments numbered 0, 1, …
        labels: integers (H, W), 0 … classes − 1, or −1 where unlabelled: those pixels are dropped.
        classes: number of classes of the data set.
        spare: "assigned" (DiffSeg) or "unassigned" (strict).

    Raises:
        InputError, NotFoundError, MissingExtraError: as ``histogram`` and ``assign``.
    """
    return match_histogram(histogram(found, labels, classes), spare)


def accuracy(matches: Matches) -> float:
    """ACC = Σ TP / labelled pixels, 0 … 1 [V, DiffSeg]; NaN where nothing is labelled."""
    return int(matches.tp.sum()) / matches.labelled if matches.labelled else float("nan")


def mean_accuracy(matches: Matches) -> float:
    """mACC = mean over the classes that occur of TP / (TP + FN), 0 … 1; NaN where none does."""
    return _mean_share(matches.tp, matches.tp + matches.fn)


def miou(matches: Matches) -> float:
    """Mean over classes of TP / (TP + FP + FN), 0 … 1; NaN where there are none.

    Classes with none of the three are left out, as in DiffSeg and STEGO [V]; a class that does not occur but was
    given a segment counts with 0.
    """
    return _mean_share(matches.tp, matches.tp + matches.fp + matches.fn)


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float:
    counted = whole > 0
    return float((part[counted] / whole[counted]).mean()) if counted.any() else float("nan")


def _padded(histogram: np.ndarray) -> np.ndarray:
    """The table with at least as many segments as classes."""
    if array("histogram", histogram).ndim != 2:
        raise InputError(f"histogram has shape {histogram.shape}, expected (classes, segments)")
    table = integer("histogram", histogram)
    missing = max(0, table.shape[0] - table.shape[1])
    return np.pad(table, ((0, 0), (0, missing)))
