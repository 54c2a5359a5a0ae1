"""Foreground against background: four counts a picture, and the figures that they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .checks import boolean, same_shape


@dataclass(frozen=True)
class Counts:
    """Pixels of one picture, or summed over a data set: ``sum(all_counts, Counts())``.

    Attributes:
        tp: foreground, found.
        fp: background, found.
        fn: foreground, not found.
        tn: background, not found.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def total(self) -> int:
        """Pixels that count."""
        return self.tp + self.fp + self.fn + self.tn


def counts(found: np.ndarray, mask: np.ndarray, void: np.ndarray | None = None) -> Counts:
    """The four counts of a found mask against the true one.

    Args:
        found: bool (H, W), the pixels called foreground.
        mask: bool (H, W), the foreground.
        void: bool (H, W), pixels that do not count; None: all count.

    Raises:
        InputError: shapes differ, or an array is not bool.
    """
    boolean("found", found)
    boolean("mask", mask)
    if void is not None:
        boolean("void", void)
    same_shape(found=found, mask=mask, void=void)
    total = mask.size
    if void is not None:
        kept = ~void
        found, mask, total = found & kept, mask & kept, int(np.count_nonzero(kept))
    tp = int(np.count_nonzero(found & mask))
    fp = int(np.count_nonzero(found)) - tp
    fn = int(np.count_nonzero(mask)) - tp
    return Counts(tp, fp, fn, total - tp - fp - fn)


def pixel_accuracy(counts: Counts) -> float:
    """(TP + TN) / all pixels, 0 … 1; NaN where no pixel counts.

    From summed counts it is Chefer's Acc (Σ correct / Σ labelled over the data set) [V]; TokenCut's Acc is
    the mean of the figure over the images [V]. They differ where pictures differ in size.
    """
    return _share(counts.tp + counts.tn, counts.total, empty=float("nan"))


def iou(counts: Counts) -> float:
    """TP / (TP + FP + FN) of the foreground, 0 … 1.

    TokenCut's IoU is the mean of this over the images [V].

    Returns:
        1.0 where there is no foreground and none was found (TokenCut's code gives NaN there), 0.0 where only
        one of the two is empty, NaN where no pixel counts.
    """
    return _share(counts.tp, counts.tp + counts.fp + counts.fn, empty=1.0 if counts.total else float("nan"))


def background_iou(counts: Counts) -> float:
    """TN / (TN + FP + FN), as ``iou`` with the two classes exchanged."""
    return iou(Counts(counts.tn, counts.fn, counts.fp, counts.tp))


def strict_miou(counts: Counts) -> float:
    """Mean of the background's and the foreground's IoU, 0 … 1.

    Chefer's mIoU takes the counts summed over the data set [V]: hand in the sum. A class that neither
    occurs nor was found counts as 1; NaN where no pixel counts.
    """
    return (background_iou(counts) + iou(counts)) / 2


def accuracy_ratio(accuracy: float) -> float:
    """a / (2 − a): what ConceptAttention's table calls mIoU.

    Its metric is fed the two maps 1 − m and m without the arg-max, so that both "classes" come out as
    correct / (2 N − correct) [V, read in the code; the published pairs agree to 0.01]. It is a function of the
    pixel accuracy alone and no IoU: report it beside ``strict_miou``, never in its place.

    Args:
        accuracy: 0 … 1; NaN stays NaN.

    Raises:
        InputError: a number beyond 0 … 1.
    """
    if accuracy < 0 or accuracy > 1:
        raise InputError(f"accuracy = {accuracy!r}, expected a share from 0 to 1 (divide percent by 100)")
    return accuracy / (2 - accuracy)


def stacked_accuracy(counts: Counts, void: int) -> float:
    """Pixel accuracy as ConceptAttention counts it where pixels are void, 0 … 1.

    The maps of foreground and background are scored as two channels. A void pixel is left out of the first
    and always wrong in the second [V], which makes 2 (TP + TN) / (2 · counted + void) [I]. Without void
    pixels it equals ``pixel_accuracy``.

    Args:
        counts: of the pixels that are not void.
        void: number of void pixels.

    Raises:
        InputError: a negative number of void pixels.
    """
    if void < 0:
        raise InputError(f"void = {void}, expected a number of pixels")
    return _share(2 * (counts.tp + counts.tn), 2 * counts.total + void, empty=float("nan"))


def _share(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty
