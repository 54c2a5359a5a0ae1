"""Foreground found against the true one: counts, accuracy, IoU, and F at one threshold or over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .checks import boolean, same_shape, scored

STEPS = 255
"""Thresholds k / 255, k = 0 … 254; a pixel is found where its score is larger."""

BETA2 = 0.3
"""β² of the saliency literature (Achanta et al. 2009), as TokenCut and Deep Spectral use it."""

SQUARED_BETA2 = 0.3**2
"""β² of SelfMask's and FOUND's figures: their code squares the 0.3 once more [V]."""


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


def precision(counts: Counts) -> float:
    """TP / (TP + FP), 0 … 1; 1 where nothing was found [V, TokenCut]."""
    found = counts.tp + counts.fp
    return counts.tp / found if found else 1.0


def recall(counts: Counts) -> float:
    """TP / (TP + FN), 0 … 1; 1 where there is no foreground [V, TokenCut]."""
    foreground = counts.tp + counts.fn
    return counts.tp / foreground if foreground else 1.0


def f_at(counts: Counts, beta2: float = BETA2) -> float:
    """F = (1 + β²) P R / (β² P + R), 0 … 1; 0 where P and R are 0.

    Args:
        counts: of one picture or of many. A binary mask has this one F at every threshold.
        beta2: β², not β. ``SQUARED_BETA2`` for figures comparable with SelfMask and FOUND.

    Raises:
        InputError: β² is not positive.
    """
    p, r = precision(counts), recall(counts)
    return float(_f(np.float64(p), np.float64(r), beta2))


def f_curve(scores: np.ndarray, mask: np.ndarray, beta2: float = BETA2, void: np.ndarray | None = None) -> np.ndarray:
    """F at the thresholds k / 255, k = 0 … 254, of one picture.

    A pixel is found where score > threshold. Precision is 1 where nothing is found and recall is 1 where there
    is no foreground, as in TokenCut's code [V]; so an empty mask has F = 1 from the threshold on at which
    nothing is found. Thresholds are taken in the precision of the scores, so that 8-bit maps divided by 255 land on
    them in float32 as in float64.

    Args:
        scores: (H, W) in [0, 1].
        mask: bool (H, W), foreground.
        beta2: β², not β: 0.3, or ``SQUARED_BETA2`` as SelfMask and FOUND have it [V].
        void: bool (H, W), pixels that do not count.

    Returns:
        (255,) float64 in [0, 1]; NaN where no pixel counts.

    Raises:
        InputError: shapes differ, scores beyond [0, 1] or not finite, a mask that is not bool, β² not positive.
    """
    values, truth = scored(scores, mask, void)
    if values.size == 0:
        return np.full(STEPS, np.nan)
    passed = _thresholds_passed(values.ravel())
    # column c: pixels that pass exactly c thresholds; found at threshold k are those that pass more than k
    table = np.bincount(passed + (STEPS + 1) * truth.ravel(), minlength=2 * (STEPS + 1)).reshape(2, STEPS + 1)
    fp, tp = table[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    found, foreground = tp + fp, int(table[1].sum())
    p = np.divide(tp, found, out=np.ones(STEPS), where=found > 0)
    r = tp / foreground if foreground else np.ones(STEPS)
    return _f(p, r, beta2)


def max_of_mean(curves: Sequence[np.ndarray] | np.ndarray) -> float:
    """max over thresholds of the mean over images: maxF of TokenCut and Deep Spectral [V].

    Args:
        curves: (images, thresholds), as from ``f_curve``.

    Raises:
        InputError: no curves, curves of different lengths, or values that are not finite.
    """
    return float(_curves(curves).mean(0).max())


def mean_of_max(curves: Sequence[np.ndarray] | np.ndarray) -> float:
    """Mean over images of the maximum over thresholds: maxF of SelfMask and FOUND [V].

    Each picture has its own best threshold, so at equal β² it is never below ``max_of_mean``; the two must
    not share a column.

    Args:
        curves: (images, thresholds), as from ``f_curve``.

    Raises:
        InputError: no curves, curves of different lengths, or values that are not finite.
    """
    return float(_curves(curves).max(1).mean())


def _thresholds_passed(values: np.ndarray) -> np.ndarray:
    """(n,) how many of the thresholds lie strictly below each value, 0 … 255."""
    guess = np.ceil(values * STEPS)
    # (k / 255) · 255 rounds to k in both precisions, so the guess is never too high; it is one too low where a score
    # just above a threshold is rounded down onto it
    guess += guess / STEPS < values
    return guess.astype(np.intp)


def _f(p: np.ndarray | np.float64, r: np.ndarray | np.float64, beta2: float) -> np.ndarray:
    if not beta2 > 0:
        raise InputError(f"beta2 = {beta2!r}, expected a positive number (β², 0.3 by default)")
    below = np.asarray(beta2 * p + r)
    return np.divide((1 + beta2) * p * r, below, out=np.zeros_like(below), where=below > 0)


def _curves(curves: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    if len({np.shape(c) for c in curves}) > 1:
        raise InputError(f"curves have the shapes {sorted({np.shape(c) for c in curves})}, expected one length for all")
    table = np.asarray(curves, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise InputError(f"curves have shape {table.shape}, expected (images, thresholds) with at least one image")
    if not np.isfinite(table).all():
        raise InputError("curves hold values that are NaN or infinite; leave out images without a figure first")
    return table
