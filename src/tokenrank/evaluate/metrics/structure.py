"""S-measure and E-measure, by the maintained package pysodmetrics."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from ...errors import InputError, NotFoundError, nearest, require
from .checks import plane, scored

VARIANTS = ("mean", "max", "adaptive")


def s_measure(scores: np.ndarray, mask: np.ndarray, alpha: float = 0.5) -> float:
    """Structure measure S = α S_object + (1 − α) S_region, 0 … 1 (Fan et al., ICCV 2017).

    S_object compares mean and spread of the scores inside and outside the object; S_region is an SSIM over the
    four quadrants around the object's centre of mass, weighted by area. The scores are taken as they are: bring
    them to [0, 1] by ``min_max`` first, as is usual.

    Args:
        scores: (H, W) in [0, 1].
        mask: bool (H, W). Empty: S = 1 − mean score; full: S = mean score.
        alpha: weight of the object part, 0 … 1.

    Raises:
        InputError: shapes differ, scores beyond [0, 1] or not finite, a mask that is not bool (H, W), α beyond 0 … 1.
        MissingExtraError: pysodmetrics is not installed.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha!r}, expected a number from 0 to 1")
    values, truth = _picture(scores, mask)
    return float(_structure()(alpha=alpha).cal_sm(values, truth))


def e_curve(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Enhanced-alignment measure of the map cut at 256 levels (Fan et al., IJCAI 2018).

    Entry j is the figure of the mask score ≥ (255 − j) / 255, after the scores are cut down to 256 levels. It is a
    sum over pixels divided by H·W − 1, as in the original, so a perfect mask gets H·W / (H·W − 1), a little over 1.

    Args:
        scores: (H, W) in [0, 1].
        mask: bool (H, W). Empty: the share of pixels not found; full: the share found (over H·W − 1 also).

    Returns:
        (256,) float64.

    Raises:
        InputError: as ``s_measure``; or a picture of a single pixel.
        MissingExtraError: pysodmetrics is not installed.
    """
    measure, values, truth = _alignment(scores, mask)
    return np.asarray(measure.cal_changeable_em(values, truth), dtype=np.float64)


def e_measure(scores: np.ndarray, mask: np.ndarray, variant: Literal["mean", "max", "adaptive"] = "mean") -> float:
    """Enhanced-alignment measure of one picture, 0 … H·W / (H·W − 1).

    Args:
        scores: (H, W) in [0, 1].
        mask: bool (H, W).
        variant: "mean" over the levels of ``e_curve``; "max" over them (each picture at its best level: papers
            mostly take the maximum of the mean curve, for which collect ``e_curve``); "adaptive": the mask
            score ≥ min(2 · mean score, 1), which is everything for a map of zeros.

    Raises:
        InputError: as ``e_curve``.
        NotFoundError: no such variant.
        MissingExtraError: pysodmetrics is not installed.
    """
    if variant not in VARIANTS:
        raise NotFoundError(f"no E-measure {variant!r}; {nearest(variant, VARIANTS)}")
    if variant == "adaptive":
        measure, values, truth = _alignment(scores, mask)
        return float(measure.cal_adaptive_em(values, truth))
    curve = e_curve(scores, mask)
    return float(curve.mean() if variant == "mean" else curve.max())


def _picture(scores: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, truth = scored(scores, mask)
    # float32 sums over a hundred thousand pixels lose digits
    return plane("scores", values).astype(np.float64, copy=False), truth


def _alignment(scores: np.ndarray, mask: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """The package's measure, told the sizes that it otherwise learns in its own loop over a data set."""
    values, truth = _picture(scores, mask)
    if truth.size < 2:
        raise InputError(f"scores have shape {values.shape}, expected at least two pixels: E divides by H·W − 1")
    measure = require("py_sod_metrics", "evaluate").Emeasure()
    measure.gt_fg_numel, measure.gt_size = int(np.count_nonzero(truth)), truth.size
    return measure, values, truth


@cache
def _structure() -> Any:
    """The package's S-measure, with quadrants of no pixels counted as nothing.

    Where the centre of mass lies in the last row or column, quadrants are empty; their weight is zero, but
    the package multiplies it with the NaN of an empty mean, and the whole figure is lost.
    """
    package = require("py_sod_metrics", "evaluate")

    class Structure(package.Smeasure):  # type: ignore[misc, name-defined]
        def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
            return float(super().ssim(pred, gt)) if pred.size else 0.0

    return Structure
