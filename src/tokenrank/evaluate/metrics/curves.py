"""Areas under curves: average precision, and what is left as more and more of a picture is taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import InputError, require
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


def perturbation_auc(accuracies: Sequence[float] | np.ndarray, ratios: Sequence[float] | np.ndarray) -> float:
    """100 · ∫ accuracy d ratio by the trapezoidal rule: Chefer's perturbation figure.

    The clean accuracy at ratio 0 is part of the curve, by the author's word on issue 31 of his repository [V]. With
    the ratios 0, 0.1, …, 0.9 the figure goes up to 90, not 100. Lower is better when the most important go
    first ("positive"), higher when the least important do ("negative").

    Args:
        accuracies: (R,) in [0, 1].
        ratios: (R,) share taken away, from 0 upward, at most 1.

    Raises:
        InputError: different lengths, fewer than two points, ratios that do not start at 0 or do not increase,
            accuracies beyond [0, 1] or not finite.
        MissingExtraError: scipy is not installed.
    """
    return 100 * _area(*_curve(accuracies, ratios))


def normalised_auc(accuracies: Sequence[float] | np.ndarray, ratios: Sequence[float] | np.ndarray) -> float:
    """∫ accuracy / clean accuracy d ratio, over the range of the ratios [I].

    1 where taking away changes nothing, whatever the model's accuracy and the last ratio; so models and sets of
    ratios compare. It can pass 1 where accuracy rises.

    Args:
        accuracies: (R,) in [0, 1]; the first is the clean one.
        ratios: (R,) from 0 upward, at most 1.

    Returns:
        NaN where the clean accuracy is 0: there is nothing to lose.

    Raises:
        InputError: as ``perturbation_auc``.
        MissingExtraError: scipy is not installed.
    """
    y, x = _curve(accuracies, ratios)
    return _area(y / y[0], x) / float(x[-1]) if y[0] > 0 else float("nan")


def deletion(
    probabilities: Sequence[float] | np.ndarray, fractions: Sequence[float] | np.ndarray | None = None
) -> float:
    """Area under the class's probability as pixels go, most important first, 0 … 1; lower is better.

    RISE (Petsiuk et al., BMVC 2018): over fractions 0 … 1 in equal steps this is
    (Σ p − p_first / 2 − p_last / 2) / steps [V].

    Args:
        probabilities: (R,) in [0, 1], from the whole picture to the emptied one.
        fractions: (R,) from 0 to 1; None: equal steps.

    Raises:
        InputError: as ``perturbation_auc``; or fractions that do not end at 1.
        MissingExtraError: scipy is not installed.
    """
    return _whole(probabilities, fractions)


def insertion(
    probabilities: Sequence[float] | np.ndarray, fractions: Sequence[float] | np.ndarray | None = None
) -> float:
    """Area under the class's probability as pixels come into a blurred picture, most important first; higher is better.

    The same area as ``deletion``, of the other curve [V, RISE].

    Args:
        probabilities: (R,) in [0, 1], from the blurred picture to the whole one.
        fractions: (R,) from 0 to 1; None: equal steps.

    Raises:
        InputError, MissingExtraError: as ``deletion``.
    """
    return _whole(probabilities, fractions)


def _whole(values: Sequence[float] | np.ndarray, fractions: Sequence[float] | np.ndarray | None) -> float:
    y, x = _curve(values, np.linspace(0, 1, len(values)) if fractions is None else fractions)
    if not np.isclose(x[-1], 1):
        raise InputError(f"fractions end at {x[-1]:.6g}, expected 1: all pixels")
    return _area(y, x)


def _area(y: np.ndarray, x: np.ndarray) -> float:
    return float(require("scipy.integrate", "evaluate").trapezoid(y, x))


def _curve(values: Sequence[float] | np.ndarray, ratios: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.asarray(values, dtype=np.float64), np.asarray(ratios, dtype=np.float64)
    if y.ndim != 1 or y.shape != x.shape or y.size < 2:
        raise InputError(f"a curve of shape {y.shape} over {x.shape}, expected (R,) over (R,) with at least two points")
    if not ((y >= 0) & (y <= 1)).all():
        raise InputError(f"values {y.min():.6g} … {y.max():.6g}, expected shares from 0 to 1 (divide percent by 100)")
    if x[0] != 0 or x[-1] > 1 or not (np.diff(x) > 0).all():
        raise InputError(f"ratios {x.tolist()}, expected 0 first, then increasing, at most 1")
    return y, x
