"""Mass is kept: a step of a walk moves probability and makes none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def keeping_mass(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Aᵀx (*batch, N, c) by ``product``, with the sums over tokens that it has in exact arithmetic: those of x.

    What rounding of logits does to the entries of a row it does to its sum, too; there it can be divided out. Positive
    and negative parts are pushed beside each other, since only sums of one sign say how much is missing.
    """
    if not bool((x < 0).any()):
        return _to_sums_of(x, product(x))
    return keeping_mass_of_parts(product, x)


def keeping_mass_of_parts(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The same without a look at the signs, which a device would have to be waited for: always both parts."""
    parts = torch.cat([x.clamp(min=0), (-x).clamp(min=0)], -1)
    positive, negative = _to_sums_of(parts, product(parts)).chunk(2, -1)
    return positive - negative


def _to_sums_of(x: Tensor, y: Tensor) -> Tensor:
    wanted, found = (t.sum(-2, keepdim=True, dtype=torch.float64) for t in (x, y))
    return y * torch.where(found > 0, wanted / found, 1.0).to(y.dtype)
