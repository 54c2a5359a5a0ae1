"""How sure a difference is: bootstrap intervals, the paired Wilcoxon test, its effect size, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, require

Numbers = npt.NDArray[np.float64]

EQUAL = 1e-12
"""Differences below this share of the largest value count as none: they are rounding."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: of all images.
        low, high: the interval's ends.
        level: the confidence.
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Paired:
    """Two methods on the same images.

    Attributes:
        n: images that both have a finite value of.
        equal: of these, images without a difference.
        difference: mean of first − second, with its interval.
        statistic: the smaller of the Wilcoxon rank sums of positive and of negative differences.
        p: two-sided.
        effect: matched-pairs rank-biserial correlation, −1 … 1; positive where the first is larger.
    """

    n: int
    equal: int
    difference: Interval
    statistic: float
    p: float
    effect: float


def resampled(n: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Places drawn with replacement, (resamples, n).

    Raises:
        InputError: nothing to draw from, or no resamples.
    """
    if n < 1 or resamples < 1:
        raise InputError(f"{n} values and {resamples} resamples, expected one at least of each")
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def interval(estimate: float, draws: Sequence[float] | Numbers, level: float = 0.95) -> Interval:
    """The percentile interval (Efron and Tibshirani 1993, §13.3): the (1 ∓ level)/2 quantiles of the draws.

    Draws that are not finite are left out; NaN where none is left.

    Raises:
        InputError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"level = {level}, expected a confidence between 0 and 1, such as 0.95")
    drawn = np.asarray(draws, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Interval(float(estimate), float("nan"), float("nan"), level)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level)


def bootstrap(
    values: Sequence[float] | Numbers,
    statistic: Callable[[Numbers], float] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A percentile bootstrap interval over images.

    Args:
        values: one an image, (n,), finite.
        statistic: of values (n,); the mean by default.
        level: confidence.
        resamples: draws of n images with replacement.
        seed: of the draws; the same seed draws the same images, so methods are resampled together.

    Raises:
        InputError: no values, or some that are not finite.
    """
    given = _finite(values, "values")
    places = resampled(len(given), resamples, seed)
    if statistic is None:
        return interval(float(given.mean()), given[places].mean(1), level)
    return interval(float(statistic(given)), [float(statistic(given[row])) for row in places], level)


def wilcoxon(first: Sequence[float] | Numbers, second: Sequence[float] | Numbers) -> tuple[float, float]:
    """The signed-rank test of Wilcoxon (1945), two-sided: (statistic, p).

    Pairs without a difference are dropped, as Wilcoxon did (what scipy calls ``zero_method="wilcox"``), and tied
    differences share their mean rank. scipy chooses between the exact distribution and its normal approximation.
    Where no pair differs p is 1: there is nothing that speaks against equality.

    Raises:
        InputError: other shapes, or values that are not finite. MissingExtraError: no scipy.
    """
    differences = _differences(first, second)
    differences = differences[differences != 0]
    if not differences.size:
        return 0.0, 1.0
    found = require("scipy.stats", "evaluate").wilcoxon(differences, alternative="two-sided")
    return float(found.statistic), float(found.pvalue)


def rank_biserial(first: Sequence[float] | Numbers, second: Sequence[float] | Numbers) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (R⁺ − R⁻) / (R⁺ + R⁻).

    R⁺ and R⁻ are the sums of ranks of |difference| where the first is larger, and where the second is. 1: the first
    is larger wherever they differ. Pairs without a difference are dropped; 0 where there are no others.

    Raises:
        InputError: other shapes, or values that are not finite. MissingExtraError: no scipy.
    """
    differences = _differences(first, second)
    differences = differences[differences != 0]
    if not differences.size:
        return 0.0
    ranks = require("scipy.stats", "evaluate").rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """p values corrected for their number (Holm 1979): the smallest times m, the next times m − 1, …, never falling.

    Raises:
        InputError: a value that is no probability.
    """
    given = _finite(p, "p values") if len(p) else np.zeros(0)
    if ((given < 0) | (given > 1)).any():
        raise InputError(f"p values {given.tolist()}, expected numbers from 0 to 1")
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return tuple(corrected.tolist())


def compare(
    first: Sequence[float] | Numbers,
    second: Sequence[float] | Numbers,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """Two methods on the same images, value by value. Images where one has no finite value are left out.

    Raises:
        InputError: other shapes, or no pair left. MissingExtraError: no scipy.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    _check_pairs(a, b)
    kept = np.isfinite(a) & np.isfinite(b)
    if not kept.any():
        raise InputError(f"none of {len(a)} images has a finite value of both methods; there is nothing to compare")
    a, b = a[kept], b[kept]
    statistic, p = wilcoxon(a, b)
    return Paired(
        n=len(a),
        equal=int((_differences(a, b) == 0).sum()),
        difference=bootstrap(a - b, level=level, resamples=resamples, seed=seed),
        statistic=statistic,
        p=p,
        effect=rank_biserial(a, b),
    )


def _differences(first: Any, second: Any) -> Numbers:
    """first − second without the noise of rounding, so that ties and zeros are seen as such."""
    a, b = _finite(first, "values"), _finite(second, "values")
    _check_pairs(a, b)
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    if scale == 0:
        return np.zeros_like(a)
    return np.round((a - b) / scale / EQUAL) * EQUAL * scale


def _check_pairs(a: Numbers, b: Numbers) -> None:
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise InputError(f"values of shapes {a.shape} and {b.shape}, expected two of one shape (n,), n ≥ 1")


def _finite(values: Any, what: str) -> Numbers:
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not given.size:
        raise InputError(f"{what} have shape {given.shape}, expected (n,), n ≥ 1")
    if not np.isfinite(given).all():
        raise InputError(f"{int((~np.isfinite(given)).sum())} of {len(given)} {what} are not finite; leave them out")
    return given
