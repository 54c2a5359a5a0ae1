"""Checks of arrays that all metrics share, and the normalisation of a map to 0 … 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError


def array(name: str, value: Any) -> np.ndarray:
    """``value``, if it is a NumPy array with at least one entry.

    Raises:
        InputError: it is something else, or empty.
    """
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"{name} is a {type(value).__name__}, expected a NumPy array; a tensor becomes one by .cpu().numpy()"
        )
    if value.size == 0:
        raise InputError(f"{name} has shape {value.shape}, expected at least one pixel")
    return value


def boolean(name: str, value: Any) -> np.ndarray:
    """``value``, if it is a NumPy array of bool.

    Raises:
        InputError: it is not.
    """
    if array(name, value).dtype != np.bool_:
        raise InputError(f"{name} has dtype {value.dtype}, expected bool; threshold it first: {name} > 0")
    return value


def integer(name: str, value: Any, smallest: int = 0) -> np.ndarray:
    """``value`` as int64, if it is a NumPy array of integers none of which is below ``smallest``.

    Raises:
        InputError: it is not.
    """
    if array(name, value).dtype.kind not in "iu":
        raise InputError(f"{name} has dtype {value.dtype}, expected integer labels: {name}.astype(np.int64)")
    labels = value.astype(np.int64, copy=False)
    if labels.min() < smallest:
        raise InputError(f"{name} has the label {labels.min()}, expected labels of {smallest} and more")
    return labels


def finite(name: str, value: Any) -> np.ndarray:
    """``value`` as float32 or float64, if it is a NumPy array of finite real numbers; half precision is widened.

    Raises:
        InputError: it is not.
    """
    if array(name, value).dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {value.dtype}, expected real numbers")
    wide = value if value.dtype in (np.float32, np.float64) else value.astype(np.float64)
    # the extremes are NaN where any entry is, and cost less than a look at every entry
    if not (np.isfinite(wide.min()) and np.isfinite(wide.max())):
        bad = int(wide.size - np.count_nonzero(np.isfinite(wide)))
        raise InputError(f"{name} has {bad} of {wide.size} values that are NaN or infinite, expected finite numbers")
    return wide


def unit(name: str, value: Any) -> np.ndarray:
    """``value`` as float32 or float64, if every number lies in [0, 1].

    Raises:
        InputError: one does not, or the array is not of finite real numbers.
    """
    wide = finite(name, value)
    low, high = wide.min(), wide.max()
    if low < 0 or high > 1:
        raise InputError(f"{name} go from {low:.6g} to {high:.6g}, expected 0 to 1; bring them there with min_max")
    return wide


def same_shape(**named: np.ndarray | None) -> None:
    """Nothing, if all arrays given have one shape; None is passed over.

    Raises:
        InputError: two differ, with both names and shapes.
    """
    given = [(name, value.shape) for name, value in named.items() if value is not None]
    first, shape = given[0]
    for name, other in given[1:]:
        if other != shape:
            raise InputError(f"{name} has shape {other}, but {first} has {shape}; bring both to one size (H, W) first")


def plane(name: str, value: np.ndarray) -> np.ndarray:
    """``value``, if it has the two dimensions (H, W).

    Raises:
        InputError: it has more or fewer.
    """
    if value.ndim != 2:
        raise InputError(f"{name} has shape {value.shape}, expected (H, W): one picture")
    return value


def scored(scores: Any, mask: Any, void: Any = None, *, limited: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Scores and mask of the pixels that count, checked.

    Args:
        scores: (H, W) real numbers.
        mask: bool (H, W), foreground.
        void: bool (H, W), pixels that do not count; None: all count.
        limited: scores must lie in [0, 1].

    Returns:
        Both in their own shape, or as (pixels,) where there is a void.

    Raises:
        InputError: shapes differ, the scores are not finite (or not in [0, 1]), a mask is not bool.
    """
    values = unit("scores", scores) if limited else finite("scores", scores)
    boolean("mask", mask)
    if void is not None:
        boolean("void", void)
    same_shape(scores=values, mask=mask, void=void)
    if void is None:
        return values, mask
    return values[~void], mask[~void]


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
