"""x ← step(x) while that contracts quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import constants


@dataclass(frozen=True)
class PowerSteps:
    """The last x (h, N), step(x) − x (h, N) and the applies spent."""

    x: Tensor
    residual: Tensor
    applies: int


def power(step: Callable[[Tensor], Tensor], x: Tensor, tolerance: Tensor, max_applies: int) -> PowerSteps:
    """Iterate until ‖step(x) − x‖₁ ≤ tolerance (h,) for every head, or some head turns out slow."""
    previous = torch.full_like(tolerance, torch.inf)
    applies = 0
    while True:
        residual = step(x) - x
        applies += 1
        size = residual.abs().sum(-1)
        open_heads = size > tolerance
        slow = open_heads & (size > constants.POWER_SLOW * previous)
        if (
            not bool(open_heads.any())
            or applies >= max_applies
            or (applies >= constants.POWER_FIRST and bool(slow.any()))
        ):
            return PowerSteps(x, residual, applies)
        previous, x = size, x + residual
