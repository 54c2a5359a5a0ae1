"""Distances between two sets of features, and the Inception Score: pure functions of NumPy arrays, in float64.

They are held to torch-fidelity's in the tests. They stand here because intervals need hundreds of them, and because
networks other than Inception should need no further package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError

Array = npt.NDArray[np.float64]

NEIGHBOURS = 3
"""Of precision and recall, as published."""
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (d,) and covariance (d, d), with n − 1 in its denominator."""

    mean: Array
    covariance: Array

    @classmethod
    def of(cls, features: npt.ArrayLike) -> Gaussian:
        """Of features (n, d).

        Raises:
            InputError: fewer than two pictures, or numbers that are not finite.
        """
        found = checked(features, 2)
        moved = found - found.mean(0)
        return cls(found.mean(0), moved.T @ moved / (len(found) - 1))


def frechet(one: Gaussian, two: Gaussian) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½): squared Wasserstein distance of two Gaussians (Dowson and Landau 1982).

    On the features of Inception it is FID (Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule"). It is
    larger for fewer pictures: compare sets of equal size only.

    Raises:
        InputError: features of other widths.
    """
    if one.mean.shape != two.mean.shape:
        raise InputError(f"features of {len(one.mean)} and {len(two.mean)} numbers; expected those of one network")
    return float(((one.mean - two.mean) ** 2).sum() + spread(one.covariance, root(two.covariance)))


def root(covariance: Array) -> Array:
    """R with R Rᵀ = covariance (d, d); what is below zero by rounding is zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def spread(covariance: Array, other_root: Array) -> float:
    """tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) from Σ₁ and R, Σ₂ = R Rᵀ: Σ₁Σ₂ has the eigenvalues of the symmetric RᵀΣ₁R."""
    values = np.linalg.eigvalsh(other_root.T @ covariance @ other_root)
    common = np.sqrt(np.clip(values, 0, None)).sum()
    return float(np.trace(covariance) + (other_root**2).sum() - 2 * common)


def kernel(one: Array, two: Array) -> Array:
    """(n, m): (x·y / d + 1)³, the kernel of KID."""
    return np.asarray((one @ two.T / one.shape[1] + 1) ** 3)


def kernel_distance(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy, with the kernel (x·y / d + 1)³.

    On the features of Inception it is KID (Bińkowski et al. 2018, "Demystifying MMD GANs"). It may be below zero.

    Args:
        one, two: features (n, d) and (m, d).

    Raises:
        InputError: as ``frechet``; fewer than two pictures.
    """
    x, y = pair(one, two)
    within = [
        (kernel(z, z).sum() - (((z**2).sum(1) / z.shape[1] + 1) ** 3).sum()) / len(z) / (len(z) - 1) for z in (x, y)
    ]
    return float(sum(within) - 2 * kernel(x, y).mean())


def precision_recall(
    generated: npt.ArrayLike, real: npt.ArrayLike, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Shares of generated pictures that are like real ones, and of real ones that are like generated ones.

    A picture is like a set if it is within one of the balls around the set's members that reach to each member's k-th
    neighbour in the set (Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric").

    Args:
        generated, real: features (n, d) and (m, d).
        neighbours: k.

    Raises:
        InputError: as ``frechet``; no more pictures than neighbours.
    """
    x, y = pair(generated, real)
    if not 1 <= neighbours < min(len(x), len(y)):
        raise InputError(
            f"neighbours = {neighbours} of {len(x)} generated and {len(y)} real pictures; expected 1 or more, and "
            "fewer than pictures in either"
        )
    return float(within(x, y, radii(y, neighbours)).mean()), float(within(y, x, radii(x, neighbours)).mean())


def radii(features: Array, neighbours: int) -> Array:
    """(n,): squared distance of each picture to its k-th neighbour, itself not counted."""
    found = [np.partition(_squared(block, features), neighbours, axis=1)[:, neighbours] for block in _blocks(features)]
    return np.concatenate(found)


def within(points: Array, centres: Array, reach: Array) -> npt.NDArray[np.bool_]:
    """(n,): whether a point is in any ball around the centres (m, d) of squared radius ``reach`` (m,)."""
    return np.concatenate([(_squared(block, centres) <= reach).any(1) for block in _blocks(points)])


def inception_score(logits: npt.ArrayLike, splits: int = 10) -> tuple[float, ...]:
    """exp of the mean KL(p(y|x) ‖ p(y)) of each split (Salimans et al. 2016, "Improved Techniques for Training GANs").

    Args:
        logits: (n, classes), in an order that has nothing to do with the classes.
        splits: equal parts, one after the other.

    Raises:
        InputError: fewer pictures than splits, or numbers that are not finite.
    """
    found = checked(logits, 1)
    if not 1 <= splits <= len(found):
        raise InputError(f"splits = {splits} of {len(found)} pictures; expected 1 to {len(found)}")
    log = found - found.max(1, keepdims=True)
    log -= np.log(np.exp(log).sum(1, keepdims=True))
    scores = []
    for part in range(splits):
        chunk = log[part * len(log) // splits : (part + 1) * len(log) // splits]
        together = np.logaddexp.reduce(chunk, axis=0) - np.log(len(chunk))  # of classes that no picture has: not log 0
        scores.append(float(np.exp((np.exp(chunk) * (chunk - together)).sum(1).mean())))
    return tuple(scores)


def checked(features: npt.ArrayLike, least: int) -> Array:
    """(n, d) in float64.

    Raises:
        InputError: another shape, fewer than ``least`` pictures, or numbers that are not finite.
    """
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or len(found) < least or not found.shape[1]:
        raise InputError(f"features of shape {found.shape}; expected (pictures, numbers), {least} pictures or more")
    if not np.isfinite(found).all():
        raise InputError(
            f"features of {int((~np.isfinite(found)).any(1).sum())} of {len(found)} pictures are not finite"
        )
    return found


def pair(one: npt.ArrayLike, two: npt.ArrayLike) -> tuple[Array, Array]:
    """Both checked, of one width."""
    x, y = checked(one, 2), checked(two, 2)
    if x.shape[1] != y.shape[1]:
        raise InputError(f"features of {x.shape[1]} and {y.shape[1]} numbers; expected those of one network")
    return x, y


def _squared(one: Array, two: Array) -> Array:
    """(n, m): squared distances; a point's to itself may be off from 0 by rounding."""
    made = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T
    return np.asarray(np.maximum(made, 0))


def _blocks(features: Array) -> list[Array]:
    return [features[begin : begin + _BLOCK] for begin in range(0, len(features), _BLOCK)]
