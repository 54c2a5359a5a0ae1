"""Mixtures and products: one chain from several, a head drawn at each step or one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .base import Measure, Operator, Structure, everywhere, is_everywhere
from .choice import shares
from .rounding import few, narrowing, sources, summed


class Mixture(Operator):
    """Σ_h w_h A_h over the last batch dimension of ``heads``: a head drawn at every step.

    Args:
        heads: operator of shape (*batch, H, N, N).
        weights: (*batch, H) in float64, non-negative, summing to one over H; or (*batch, H, N), where the draw depends
            on the token that the step begins at.
        weight_error: relative error of the weights, (*batch,), where they were computed.
        logs: logarithms of the weights, where they are known: of what is too small for a number, too.
    """

    def __init__(
        self, heads: Operator, weights: Tensor, weight_error: Tensor | None = None, logs: Tensor | None = None
    ) -> None:
        self.heads, self.weights, self.weight_error = heads, weights, weight_error
        self.logs = weights.double().log() if logs is None else logs
        self._by_token = weights.ndim == len(heads.batch) + 1
        self.shape = torch.Size((*heads.shape[:-3], *heads.shape[-2:]))
        self.dtype, self.device, self.structure = heads.dtype, heads.device, heads.structure
        self._path = heads.path

    def matmul(self, x: Tensor) -> Tensor:
        return self._sum(self.heads.matmul(self._spread(x)))

    def rmatmul(self, x: Tensor) -> Tensor:
        if self._by_token:
            return self.heads.rmatmul(self.weights.to(x.dtype)[..., None] * x[..., None, :, :]).sum(-3)
        return self._sum(self.heads.rmatmul(self._spread(x)))

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.rows(start, stop, dtype), slice(start, stop))

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.columns(start, stop, dtype))

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.diagonal(dtype))

    def support(self) -> Tensor:
        heads = self.heads.support()
        if is_everywhere(heads):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        drawn = (self.logs if self._by_token else self.logs[..., None])[..., None] > -math.inf
        return (heads & drawn).any(-3)

    @property
    def source(self) -> str:
        return self.heads.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        used = self.logs.amax(-1) > -math.inf if self._by_token else self.logs > -math.inf
        error = torch.where(used, self.heads.entry_error(dtype), 0.0).amax(-1) + narrowing(torch.float64, dtype)
        error = error + summed(self.heads.batch[-1], dtype)
        return error if self.weight_error is None else error + self.weight_error

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        drawn = self.logs if self._by_token else self.logs[..., None]
        error = measure.error if self.weight_error is None else measure.error + self.weight_error
        spread = Measure(measure.log[..., None, :] + drawn, error[..., None].expand(self.heads.batch))
        heads, images = self.heads.turn(spread)
        image = images.log.logsumexp(-2)
        error = images.error.amax(-1) + few(self.heads.batch[-1], images.log.flatten(-2))
        logs = images.log - image.masked_fill(image == -math.inf, 0.0)[..., None, :]
        return Mixture(heads, shares(images.log, -2), 2 * error, logs), Measure(image, error)

    def reshape(self, *batch: int) -> Mixture:
        rest = self.weights.shape[len(self.batch) :]
        error = None if self.weight_error is None else self.weight_error.reshape(batch)
        heads = self.heads.reshape(*batch, rest[0])
        return Mixture(heads, self.weights.reshape(*batch, *rest), error, self.logs.reshape(*batch, *rest))

    def index(self, *index: Any) -> Mixture:
        error = None if self.weight_error is None else self.weight_error[index]
        return Mixture(self.heads.index(*index), self.weights[index], error, self.logs[index])

    def _spread(self, x: Tensor) -> Tensor:
        return x[..., None, :, :].expand(*self.heads.batch, -1, -1)

    def _sum(self, per_head: Tensor, tokens: slice = slice(None)) -> Tensor:
        """Over the heads of (*batch, H, n, …), of rows of some tokens or of something for each of them."""
        weights = self.weights.to(per_head.dtype)
        inner = "ij"[: per_head.ndim - len(self.heads.batch)]
        if self._by_token:
            return torch.einsum(f"...hi,...h{inner}->...{inner}", weights[..., tokens], per_head)
        return torch.einsum(f"...h,...h{inner}->...{inner}", weights, per_head)


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
        self.shape, self.device, self._path = first.shape, first.device, first.path
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

    @property
    def source(self) -> str:
        return sources(*(f.source for f in self.factors))

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        error = reduce(torch.add, (f.entry_error(dtype) for f in self.factors))
        # numbers between two factors are sums over all tokens, of rows that may be divided by such a sum; what the last
        # product is off by belongs to the vector
        return error + (len(self.factors) - 1) * summed(2 * self.num_tokens, dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        turned = []
        for factor in self.factors:
            back, measure = factor.turn(measure)
            turned.append(back)
        return Product(turned[::-1]), measure

    def reshape(self, *batch: int) -> Product:
        return Product([f.reshape(*batch) for f in self.factors])

    def index(self, *index: Any) -> Product:
        return Product([f.index(*index) for f in self.factors])
