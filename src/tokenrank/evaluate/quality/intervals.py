"""How sure a distance is: bootstrap over pictures, the same draws for every set, so that differences are paired."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..statistics import Interval, interval
from .distances import Array, Gaussian, checked, kernel, pair, root, spread

RESAMPLES = 200


@dataclass(frozen=True)
class Drawn:
    """An estimate, and what it is on pictures drawn again.

    Attributes:
        estimate: on all pictures.
        draws: (resamples,).
    """

    estimate: float
    draws: Array

    @property
    def interval(self) -> Interval:
        """95 %: the spread of the draws around the estimate. Their own mean is not used, since pictures that are drawn
        twice make a Fréchet distance larger.
        """
        return interval(self.estimate, self.draws - self.draws.mean() + self.estimate)


@dataclass(frozen=True)
class Difference:
    """First minus second, on the same seeds.

    Attributes:
        interval: of the difference.
        p: two-sided, of the difference over the standard deviation of its draws, as a normal number.
    """

    interval: Interval
    p: float


def counts(n: int, resamples: int = RESAMPLES, seed: int = 0) -> npt.NDArray[np.int64]:
    """(resamples, n): how often each picture is drawn, with replacement, n in all.

    Raises:
        InputError: fewer than two pictures, or no resamples.
    """
    if n < 2 or resamples < 2:
        raise InputError(f"{n} pictures and {resamples} resamples, expected two at least of each")
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)


def frechet_drawn(generated: npt.ArrayLike, real: Gaussian, drawn: npt.NDArray[np.int64]) -> Drawn:
    """The Fréchet distance of features (n, d) to those of the real pictures, which are not drawn again.

    Raises:
        InputError: ``drawn`` is of another number of pictures; as ``frechet``.
    """
    x = _fits(generated, drawn)
    if x.shape[1] != len(real.mean):
        raise InputError(f"features of {x.shape[1]} and {len(real.mean)} numbers; expected those of one network")
    real_root = root(real.covariance)

    def distance(weights: Array) -> float:
        mean = weights @ x / len(x)
        moved = x - mean
        covariance = (moved.T * weights) @ moved / (len(x) - 1)
        return float(((mean - real.mean) ** 2).sum() + spread(covariance, real_root))

    return Drawn(distance(np.ones(len(x))), np.array([distance(weights) for weights in drawn.astype(np.float64)]))


def kernel_drawn(generated: npt.ArrayLike, real: npt.ArrayLike, drawn: npt.NDArray[np.int64]) -> Drawn:
    """KID's distance of features (n, d) to (m, d). Two copies of one picture are no pair, so that it stays unbiased.

    Raises:
        InputError: as ``kernel_distance``; ``drawn`` is of another number of pictures.
    """
    x, y = pair(_fits(generated, drawn), real)
    inner = kernel(x, x)
    np.fill_diagonal(inner, 0)
    across = kernel(x, y).mean(1)
    others = kernel(y, y)
    fixed = (others.sum() - np.trace(others)) / len(y) / (len(y) - 1)

    def distance(weights: Array) -> Array:
        """Of counts (k, n): (k,)."""
        total = weights.sum(1)
        pairs = total**2 - (weights**2).sum(1)
        return np.asarray(((weights @ inner) * weights).sum(1) / pairs + fixed - 2 * weights @ across / total)

    return Drawn(float(distance(np.ones((1, len(x))))[0]), distance(drawn.astype(np.float64)))


def score_drawn(logits: npt.ArrayLike, drawn: npt.NDArray[np.int64]) -> Drawn:
    """The Inception Score of logits (n, classes), all pictures in one split: exp(H(mean p) − mean H(p)).

    Of another network's classifier it is no Inception Score; name it so.

    Raises:
        InputError: ``drawn`` is of another number of pictures; numbers that are not finite.
    """
    given = _fits(logits, drawn)
    log = given - np.logaddexp.reduce(given, axis=1, keepdims=True)
    p = np.exp(log)
    inner = -(p * log).sum(1)

    def score(weights: Array) -> Array:
        """Of counts (k, n): (k,)."""
        together = weights @ p / weights.sum(1, keepdims=True)
        outer = -(together * np.log(np.maximum(together, np.finfo(np.float64).tiny))).sum(1)
        return np.asarray(np.exp(outer - weights @ inner / weights.sum(1)))

    return Drawn(float(score(np.ones((1, len(p))))[0]), score(drawn.astype(np.float64)))


def difference(first: Drawn, second: Drawn) -> Difference:
    """First minus second; both of the same draws.

    Raises:
        InputError: other numbers of draws.
    """
    if first.draws.shape != second.draws.shape:
        raise InputError(f"{len(first.draws)} and {len(second.draws)} draws; expected those of one counts(…)")
    both = Drawn(first.estimate - second.estimate, first.draws - second.draws)
    deviation = float(both.draws.std(ddof=1))
    if deviation == 0:
        return Difference(both.interval, 1.0 if both.estimate == 0 else 0.0)
    return Difference(both.interval, math.erfc(abs(both.estimate) / deviation / math.sqrt(2)))


def _fits(generated: npt.ArrayLike, drawn: npt.NDArray[np.int64]) -> Array:
    x = checked(generated, 2)
    if drawn.ndim != 2 or drawn.shape[1] != len(x):
        raise InputError(f"draws of shape {drawn.shape} for {len(x)} pictures; expected counts({len(x)})")
    return x
