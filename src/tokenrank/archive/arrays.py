"""Tensors from whatever holds numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line


def is_array(value: Any) -> bool:
    """Whether ``value`` is a tensor or an array of numbers, not a container of them."""
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "__array__")


def as_tensor(value: Any, what: str) -> Tensor:
    """``value`` as a plain tensor without gradients; its memory is shared where that is possible.

    Args:
        value: a tensor, a NumPy array, or an array of another library that NumPy can read.
        what: its name, for the error.

    Raises:
        InputError: no array of numbers; sparse; on the device "meta".
    """
    if value is None:
        raise InputError(f"{what} is None, expected a tensor or an array")
    if not isinstance(value, Tensor):
        value = _from_array(value, what)
    if value.layout is not torch.strided or value.is_quantized:
        raise InputError(f"{what} is a sparse or quantized tensor, expected a dense one; convert it with .to_dense()")
    if value.is_meta:
        raise InputError(f"{what} is on the device 'meta', which holds shapes only; give a tensor with numbers in it")
    return value.detach().as_subclass(Tensor)


def _from_array(value: Any, what: str) -> Tensor:
    if not is_array(value):
        raise InputError(f"{what} is of type {type(value).__name__}, expected a tensor or an array of numbers")
    try:
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except Exception as error:
        dtype = getattr(value, "dtype", type(value).__name__)
        raise InputError(
            f"{what} of type {dtype} is no array of numbers that PyTorch knows: {first_line(error)}; convert it to "
            "float32"
        ) from error
