"""Foreground of a map: the one rule that says which of its tokens or pixels belong to the object."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

Values = TypeVar("Values", Tensor, np.ndarray)
ForegroundRule: TypeAlias = "Literal['mean'] | float | None"

CONSTANT = 1e-6  # of the largest value: a map that varies by less is constant: models round so, in single precision
EXACT = 1e-12  # of the mass: a share that is met up to this is met, so that 0.5 of two equal halves is one of them


def foreground(values: Values, rule: ForegroundRule = "mean", axes: int = 1) -> Values:
    """What belongs to the object, bool, in the shape and kind (tensor or array) of the values.

    A constant map has no foreground: it says of no token that it is one rather than another.

    Args:
        values: (…, N), or with ``axes=2`` (…, H, W), and so on.
        rule: "mean" keeps what is above the map's mean; a number p, 0 < p ≤ 1, keeps the fewest values that hold
            the share p of the map's mass (DINO keeps 0.6), of equal ones the first; None keeps all.
        axes: how many of the last dimensions are one map.

    Raises:
        InputError: another rule.

    Example:
        >>> import torch
        >>> values = torch.tensor([0.5, 0.3, 0.1, 0.1])
        >>> foreground(values).tolist(), foreground(values, 0.4).tolist()
        ([True, True, False, False], [True, False, False, False])
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    mask = _foreground(tensor.flatten(-axes), rule).reshape(tensor.shape)
    return mask if isinstance(values, Tensor) else mask.numpy()


def is_constant(values: Values, axes: int = 1) -> Values:
    """Whether all values of a map are equal, rounding of their precision aside: bool, without the last ``axes``."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    constant = _constant(tensor.flatten(-axes))
    return constant if isinstance(values, Tensor) else constant.numpy()


def _foreground(values: Tensor, rule: ForegroundRule) -> Tensor:
    if rule is None:
        return torch.ones_like(values, dtype=torch.bool)
    values = values if values.is_floating_point() else values.double()
    if rule == "mean":
        above = values > values.mean(-1, keepdim=True)
    elif isinstance(rule, int | float) and not isinstance(rule, bool) and 0 < rule <= 1:
        above = _share(values.double(), float(rule))
    else:
        raise InputError(f"rule = {rule!r}, expected 'mean', a share of the mass in (0, 1], or None for all")
    return above & ~_constant(values)[..., None]


def _share(values: Tensor, share: float) -> Tensor:
    """The largest values, until they hold the share of the sum."""
    order = values.sort(dim=-1, descending=True, stable=True)
    held = order.values.cumsum(-1)
    before = torch.cat([torch.zeros_like(held[..., :1]), held[..., :-1]], -1)
    kept = before < share * held[..., -1:] * (1 - EXACT)
    return torch.zeros_like(kept).scatter(-1, order.indices, kept)


def _constant(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        values = values.double()
    rounding = 8 * torch.finfo(values.dtype).eps
    low, high = values.aminmax(dim=-1)
    return (high - low).abs() <= max(CONSTANT, rounding) * values.abs().amax(-1)
