"""Mixtures and products: one chain from several, a head drawn at each step or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .base import Operator, Structure, everywhere, is_everywhere


class Mixture(Operator):
    """Σ_h w_h A_h over the last batch dimension of ``heads``.

    Args:
        heads: operator of shape (*batch, H, N, N).
        weights: (*batch, H) in float64, non-negative, summing to one over H.
    """

    def __init__(self, heads: Operator, weights: Tensor) -> None:
        self.heads, self.weights = heads, weights
        self.shape = torch.Size((*heads.shape[:-3], *heads.shape[-2:]))
        self.dtype, self.device, self.structure = heads.dtype, heads.device, heads.structure

    def matmul(self, x: Tensor) -> Tensor:
        return self._sum(self.heads.matmul(self._spread(x)))

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._sum(self.heads.rmatmul(self._spread(x)))

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.rows(start, stop, dtype))

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.columns(start, stop, dtype))

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.diagonal(dtype))

    def support(self) -> Tensor:
        heads = self.heads.support()
        if is_everywhere(heads):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        used = self.weights > 0
        return (heads & used[..., None, None]).any(-3)

    def reshape(self, *batch: int) -> Mixture:
        h = self.weights.shape[-1]
        return Mixture(self.heads.reshape(*batch, h), self.weights.reshape(*batch, h))

    def index(self, *index: Any) -> Mixture:
        return Mixture(self.heads.index(*index), self.weights[index])

    def _spread(self, x: Tensor) -> Tensor:
        return x[..., None, :, :].expand(*self.heads.batch, -1, -1)

    def _sum(self, per_head: Tensor) -> Tensor:
        """Over the heads of (*batch, H, …), vectors or matrices."""
        inner = "ij"[: per_head.ndim - self.weights.ndim]
        return torch.einsum(f"...h,...h{inner}->...{inner}", self.weights.to(per_head.dtype), per_head)


class Product(Operator):
    """A₁ A₂ … A_L: a walk that takes a step of A₁ first and one of A_L last.

    A time-inhomogeneous chain, such as the layers of a model. Attention rollout is the product
    of ``Lazy(A, ½)`` from the last layer to the first.

    Args:
        factors: operators of one shape (*batch, N, N), at least one.
    """

    def __init__(self, factors: Sequence[Operator]) -> None:
        self.factors = tuple(factors)
        first = self.factors[0]
        self.shape, self.device = first.shape, first.device
        self.dtype = reduce(torch.promote_types, (f.dtype for f in self.factors))
        structures: set[Structure] = {f.structure for f in self.factors}
        self.structure = structures.pop() if len(structures) == 1 else "full"

    def matmul(self, x: Tensor) -> Tensor:
        for factor in reversed(self.factors):
            x = factor.matmul(x)
        return x

    def rmatmul(self, x: Tensor) -> Tensor:
        for factor in self.factors:
            x = factor.rmatmul(x)
        return x

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        first, *rest = self.factors
        x = first.rows(start, stop, dtype or self.dtype).mT
        for factor in rest:
            x = factor.rmatmul(x)
        return x.mT

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        *rest, last = self.factors
        x = last.columns(start, stop, dtype or self.dtype)
        for factor in reversed(rest):
            x = factor.matmul(x)
        return x

    def support(self) -> Tensor:
        supports = (f.support() for f in self.factors)
        # a sum of zeros and ones is positive exactly where one of them is, in any precision
        return reduce(lambda a, b: a.float() @ b.float() > 0, supports)

    def reshape(self, *batch: int) -> Product:
        return Product([f.reshape(*batch) for f in self.factors])

    def index(self, *index: Any) -> Product:
        return Product([f.index(*index) for f in self.factors])
