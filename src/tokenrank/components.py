"""Connected parts of a mask on a grid."""

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


def _labels(mask: Mask) -> npt.NDArray[np.int32]:
    # the plain cross of four neighbours is what `label` takes by default
    labels: Any = require("scipy.ndimage", "evaluate").label(mask)[0]
    return np.asarray(labels, dtype=np.int32)


def _checked(mask: npt.ArrayLike) -> Mask:
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise InputError(f"the mask is {mask.dtype} of shape {mask.shape}, expected bool (rows, columns)")
    return mask
