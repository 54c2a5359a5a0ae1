"""Average precision of scores against a mask."""

from __future__ import annotations

import numpy as np

from ...errors import require
from .checks import scored


def average_precision(scores: np.ndarray, mask: np.ndarray, void: np.ndarray | None = None) -> float:
    """AP = Σ_n (R_n − R_{n−1}) P_n over the foreground alone, 0 … 1, by scikit-learn; depends on the order only.

    Args:
        scores: (H, W), finite.
        mask: bool (H, W), foreground.
        void: bool (H, W), pixels that do not count.

    Returns:
        NaN where there is no foreground: no recall is defined. (scikit-learn warns and gives 0.)

    Raises:
        InputError: shapes differ, scores that are not finite, a mask that is not bool.
    """
    values, truth = scored(scores, mask, void, limited=False)
    return _average_precision(truth.ravel(), values.ravel())


def pooled_average_precision(scores: np.ndarray, mask: np.ndarray, void: np.ndarray | None = None) -> float:
    """AP of both classes in one ranking, 0 … 1: [1 − s ; s] against [1 − g ; g].

    Chefer's mAP is the mean of this over the images [V]. Every pixel enters twice, as background with 1 − s
    and as foreground with s, so the figure is not a matter of rank: it changes when the scores are rescaled,
    even monotonically. Fix the normalisation first. Chefer's protocol uses ``min_max``; ConceptAttention's
    PascalVOC figures take the scores as they are [V], which is why no range is asked for here.

    Args:
        scores: (H, W), finite.
        mask: bool (H, W), foreground; may be empty or full.
        void: bool (H, W), pixels that do not count.

    Returns:
        NaN where no pixel counts.

    Raises:
        InputError: shapes differ, scores that are not finite, a mask that is not bool.
    """
    values, truth = scored(scores, mask, void, limited=False)
    values, truth = values.ravel(), truth.ravel()
    return _average_precision(np.concatenate([~truth, truth]), np.concatenate([1 - values, values]))


def _average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    if not truth.any():
        return float("nan")
    return float(require("sklearn.metrics", "evaluate").average_precision_score(truth, scores))
