"""How well maps find the patches of a word, for many maps at once."""

from __future__ import annotations

import numpy as np

NAMES = ("ap", "rank_ap", "tp", "fp", "fn", "tn", "pointing")
"""What ``scored`` gives of a map: average precision of both classes in one ranking of the min-max normalised map; that
of the foreground alone; counts at the mean; whether the largest value lies on the word."""


def scored(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scores of maps (…, P) against bool (…, P): (…, 7), in the order of ``NAMES``.

    ``ap`` is Chefer's: scores [1 − s ; s] of the map from 0 to 1 against [1 − g ; g]
    (``evaluate.metrics.pooled_average_precision``). Where several patches share the largest value, pointing is the
    share of them that lies on the word.
    """
    values = maps.astype(np.float64)
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    pooled = average_precisions(np.concatenate([1 - scaled, scaled], -1), np.concatenate([~truth, truth], -1))
    found = values > values.mean(-1, keepdims=True)
    best = values == high
    return np.stack(
        [
            pooled,
            average_precisions(scaled, truth),
            (found & truth).sum(-1),
            (found & ~truth).sum(-1),
            (~found & truth).sum(-1),
            (~found & ~truth).sum(-1),
            (best & truth).sum(-1) / best.sum(-1),
        ],
        -1,
    )


def average_precisions(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Σ (R_n − R_{n−1}) P_n of each row, equal scores at once, as scikit-learn's ``average_precision_score``.

    Thousands of rows are sorted at once: the truth travels in the lowest bit of its score, so scores that differ in
    that bit alone (2e−16 of a score) count as equal.

    Args:
        scores: (…, P), finite and ≥ 0.
        truth: bool (…, P), some of it true.
    """
    bits = np.ascontiguousarray(scores, np.float64).view(np.int64)
    order = np.sort((bits & ~1) | truth, -1)[..., ::-1]  # of numbers ≥ 0 the order of the bits is theirs
    hits, values = (order & 1).astype(bool), order >> 1
    count = scores.shape[-1]
    precision = hits.cumsum(-1) / np.arange(1, count + 1)
    ends = np.ones(scores.shape, bool)  # of equal scores the last
    ends[..., :-1] = values[..., 1:] != values[..., :-1]
    if not ends.all():
        places = np.where(ends, np.arange(count), count)
        last = np.minimum.accumulate(places[..., ::-1], -1)[..., ::-1]
        precision = np.take_along_axis(precision, last, -1)
    return (precision * hits).sum(-1) / hits.sum(-1)


def strict_iou(counts: np.ndarray) -> np.ndarray:
    """Mean of foreground's and background's IoU of counts (…, 4) tp, fp, fn, tn."""
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return (tp / np.maximum(tp + fp + fn, 1) + tn / np.maximum(tn + fp + fn, 1)) / 2


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of patches that are right."""
    given = np.asarray(counts, np.float64)
    return (given[..., 0] + given[..., 3]) / given.sum(-1)
