"""Connected parts of a mask on a grid, and the place that a map points at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError, require

Mask = npt.NDArray[np.bool_]


def component_of(mask: npt.ArrayLike, row: int, column: int) -> Mask:
    """The 4-connected part of a mask that holds a cell; diagonal neighbours are not connected.

    Args:
        mask: bool (rows, columns).
        row, column: a cell; negative ones count from the end.

    Returns:
        bool (rows, columns); all False where the cell is not in the mask.

    Raises:
        InputError: not a bool (rows, columns), or a cell outside of it.
        MissingExtraError: scipy is not installed.
    """
    mask = _checked(mask)
    for name, index, count in (("row", row, mask.shape[0]), ("column", column, mask.shape[1])):
        if not -count <= index < count:
            raise InputError(f"{name} {index} of a mask of {mask.shape}, expected {-count} to {count - 1}")
    labels = _labels(mask)
    return np.asarray((labels == labels[row, column]) & mask)


def largest_component(mask: npt.ArrayLike) -> Mask:
    """The largest 4-connected part of a mask; of several equal ones the first in reading order.

    Args:
        mask: bool (rows, columns).

    Returns:
        bool (rows, columns); all False where the mask is empty.

    Raises:
        InputError: not a bool (rows, columns).
        MissingExtraError: scipy is not installed.
    """
    mask = _checked(mask)
    labels = _labels(mask)
    sizes = np.bincount(labels[mask])
    return np.asarray(labels == sizes.argmax()) if sizes.size else np.zeros_like(mask)


def peak_of(values: npt.ArrayLike) -> tuple[int, int]:
    """(row, column) of the largest value of a map (rows, columns); of several the first in reading order.

    Raises:
        InputError: not (rows, columns), empty, or NaN in it.
    """
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise InputError(f"values have shape {values.shape}, expected (rows, columns) with one cell at least")
    if np.isnan(values).any():
        raise InputError(f"{int(np.isnan(values).sum())} of {values.size} values are NaN, expected numbers")
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(column)


def _labels(mask: Mask) -> npt.NDArray[np.int32]:
    # the plain cross of four neighbours is what `label` takes by default
    labels: Any = require("scipy.ndimage", "evaluate").label(mask)[0]
    return np.asarray(labels, dtype=np.int32)


def _checked(mask: npt.ArrayLike) -> Mask:
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise InputError(f"the mask is {mask.dtype} of shape {mask.shape}, expected bool (rows, columns)")
    return mask
