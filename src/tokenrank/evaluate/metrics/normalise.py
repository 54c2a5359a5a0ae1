"""Bringing a map to [0, 1]: a step of its own, since some metrics depend on more than the order of the scores."""

from __future__ import annotations

import numpy as np

from .checks import finite


def min_max(scores: np.ndarray) -> np.ndarray:
    """(s − min s) / (max s − min s): the smallest score becomes 0, the largest 1.

    Chefer's protocol does this to every map, per image, before AP and F1 [V]. The pooled average precision
    and everything with fixed thresholds (F curve, E-measure) change with it, so methods compare only under
    the same normalisation.

    Args:
        scores: (H, W), or any shape, finite real numbers.

    Returns:
        The same shape, in [0, 1], float32 for float32 and float64 for anything else. A map of one value
        marks nothing: it becomes 0 everywhere. (The reference code divides by zero there and gets NaN.)

    Raises:
        InputError: scores that are not finite, or no NumPy array.
    """
    values = finite("scores", scores)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros_like(values)
    # halves first: the difference of two huge numbers of unlike sign may not be finite
    scaled = (values / 2 - low / 2) / (high / 2 - low / 2)
    return np.clip(scaled, 0, 1, out=scaled)
