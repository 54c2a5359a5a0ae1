"""A segmentation against several human ones: covering, Rand index, variation of information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .checks import integer, same_shape


def contingency(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """n[u, v]: pixels that have label u in ``found`` and v in ``truth``.

    Args:
        found: integers (H, W), 0 or more.
        truth: integers (H, W), 0 or more.

    Returns:
        int64 (labels of found, labels of truth), in increasing order. A label that does not occur has a row or
        column of zeros, or none: no metric here changes by it.

    Raises:
        InputError: shapes differ, no integers, or a negative label.
    """
    u, v = integer("found", found), integer("truth", truth)
    same_shape(found=found, truth=truth)
    if (int(u.max()) + 1) * (int(v.max()) + 1) > max(16 * u.size, 65536):
        u, v = _compact(u), _compact(v)  # numbers far apart would make a huge table of zeros
    rows, columns = int(u.max()) + 1, int(v.max()) + 1
    return np.bincount((u * columns + v).ravel(), minlength=rows * columns).reshape(rows, columns)


def covering(segmentation: np.ndarray, annotators: Sequence[np.ndarray]) -> float:
    """Σ_R |R| · max_S IoU(R, S) / Σ_R |R| over all regions R of all annotators, 0 … 1 (Arbeláez et al., PAMI 2011).

    S runs through the segments. Regions of all annotators are pooled, as in the BSDS benchmark [V].

    Args:
        segmentation: integers (H, W), 0 or more.
        annotators: at least one integer (H, W).

    Raises:
        InputError: shapes differ, no integers, a negative label, or no annotator.
    """
    one = Scales.of([segmentation], annotators)
    return float(one.covered[0] / one.area)


def rand_index(segmentation: np.ndarray, annotators: Sequence[np.ndarray]) -> float:
    """Probabilistic Rand index: RI = 1 − [½ Σ n_u² + ½ Σ n_v² − Σ n_uv²] / C(N, 2), mean over the annotators, 0 … 1.

    The share of pixel pairs on which both agree whether they belong together [V, BSDS benchmark]. A single
    pixel has no pairs and gets 1.

    Args:
        segmentation: integers (H, W), 0 or more.
        annotators: at least one integer (H, W).

    Raises:
        InputError: as ``covering``.
    """
    return float(np.mean([_rand_index(n) for n in _tables(segmentation, annotators)]))


def variation_of_information(segmentation: np.ndarray, annotators: Sequence[np.ndarray]) -> float:
    """H(S) + H(G) − 2 I(S; G) in bits (log2), mean over the annotators; 0 is best (Meilă 2005) [V, BSDS benchmark].

    Args:
        segmentation: integers (H, W), 0 or more.
        annotators: at least one integer (H, W).

    Raises:
        InputError: as ``covering``.
    """
    return float(np.mean([_information(n) for n in _tables(segmentation, annotators)]))


@dataclass(frozen=True, eq=False)
class Scales:
    """One picture's figures at T scales, in the parts that a data set sums.

    Attributes:
        covered: (T,) Σ_R |R| max_S IoU(R, S), pixels.
        best: the same with S taken over the segments of all scales, pixels.
        area: Σ_R |R|, pixels: the picture's area times the annotators.
        rand: (T,) Rand index, mean over annotators.
        information: (T,) variation of information in bits, mean over annotators.
    """

    covered: np.ndarray
    best: float
    area: int
    rand: np.ndarray
    information: np.ndarray

    @classmethod
    def of(cls, segmentations: Sequence[np.ndarray], annotators: Sequence[np.ndarray]) -> Scales:
        """From a picture's segmentations, coarse to fine or the reverse, the same scales for all pictures.

        Args:
            segmentations: T integer (H, W), 0 or more.
            annotators: at least one integer (H, W).

        Raises:
            InputError: no segmentation, or as ``covering``.
        """
        if not segmentations:
            raise InputError("no segmentation, expected one for each scale")
        covered, rand, information = [], [], []
        best: np.ndarray | None = None
        for segmentation in segmentations:
            tables = list(_tables(segmentation, annotators))
            overlaps = np.concatenate([_best_overlaps(n) for n in tables])
            areas = np.concatenate([n.sum(0) for n in tables])
            covered.append(float(areas @ overlaps))
            rand.append(float(np.mean([_rand_index(n) for n in tables])))
            information.append(float(np.mean([_information(n) for n in tables])))
            best = overlaps if best is None else np.maximum(best, overlaps)
        return cls(np.array(covered), float(areas @ best), int(areas.sum()), np.array(rand), np.array(information))


@dataclass(frozen=True)
class RegionFigures:
    """A data set's figures.

    ODS is the best single scale for the whole data set, OIS the best scale of each picture, "best" takes for every
    region its best segment of any scale.

    Attributes:
        covering_ods, covering_ois, covering_best: 0 … 1, higher is better.
        rand_ods, rand_ois: 0 … 1, higher is better.
        information_ods, information_ois: bits, lower is better.
        covering_scale, rand_scale, information_scale: index of the scale behind each ODS, the first of equals.
    """

    covering_ods: float
    covering_ois: float
    covering_best: float
    rand_ods: float
    rand_ois: float
    information_ods: float
    information_ois: float
    covering_scale: int
    rand_scale: int
    information_scale: int


def ods_ois(pictures: Sequence[Scales]) -> RegionFigures:
    """Pool pictures as the BSDS benchmark does [V].

    Covering sums numerators and denominators over the pictures, so that large ones weigh more; the Rand index
    and the variation of information are means over pictures. With one scale ODS equals OIS.

    Args:
        pictures: one or more, all with the same T scales.

    Raises:
        InputError: no pictures, or different numbers of scales.
    """
    if not pictures:
        raise InputError("no pictures, expected the figures of at least one")
    lengths = sorted({len(p.covered) for p in pictures})
    if len(lengths) > 1:
        raise InputError(f"pictures have {lengths} scales, expected the same scales for all")
    covered = np.array([p.covered for p in pictures])
    rand = np.array([p.rand for p in pictures])
    information = np.array([p.information for p in pictures])
    area = sum(p.area for p in pictures)
    sums, rands, informations = covered.sum(0), rand.mean(0), information.mean(0)
    return RegionFigures(
        covering_ods=float(sums.max() / area),
        covering_ois=float(covered.max(1).sum() / area),
        covering_best=sum(p.best for p in pictures) / area,
        rand_ods=float(rands.max()),
        rand_ois=float(rand.max(1).mean()),
        information_ods=float(informations.min()),
        information_ois=float(information.min(1).mean()),
        covering_scale=int(sums.argmax()),
        rand_scale=int(rands.argmax()),
        information_scale=int(informations.argmin()),
    )


def _tables(segmentation: np.ndarray, annotators: Sequence[np.ndarray]) -> list[np.ndarray]:
    if len(annotators) == 0:
        raise InputError("no annotator, expected at least one segmentation by hand")
    return [contingency(segmentation, annotator) for annotator in annotators]


def _compact(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered 0, 1, … in their order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _best_overlaps(n: np.ndarray) -> np.ndarray:
    """(labels of truth,) max over segments of the IoU; 0 for a label that does not occur."""
    union = n.sum(1, keepdims=True) + n.sum(0) - n
    return np.divide(n, union, out=np.zeros(n.shape), where=union > 0).max(0)


def _rand_index(n: np.ndarray) -> float:
    pixels = int(n.sum())
    if pixels == 1:
        return 1.0
    disagreeing = (np.square(n.sum(1)).sum() + np.square(n.sum(0)).sum()) / 2 - np.square(n).sum()
    return float(1 - disagreeing / (pixels * (pixels - 1) / 2))


def _information(n: np.ndarray) -> float:
    joint = n / n.sum()
    # H(S) + H(G) − 2 I(S; G) = 2 H(S, G) − H(S) − H(G); rounding may leave a tiny negative number
    return max(0.0, 2 * _entropy(joint) - _entropy(joint.sum(0)) - _entropy(joint.sum(1)))


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())
