"""Restricted and censored chains: on some of the tokens, rows renormalised, or watched only while there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator, everywhere, is_everywhere
from .checks import no_empty_rows


def restrict(operator: Operator, keep: Tensor) -> Operator:
    """The chain on the tokens ``keep`` (increasing indices, (M,)), rows renormalised.

    In the operator's own form where it has one (weights, queries and keys), else as ``Restricted``.

    Raises:
        ChainError: a kept token sends no probability to the kept tokens.
    """
    own = operator.restricted(keep)
    return Restricted(operator, keep) if own is None else own


class Restricted(Operator):
    """A[S, S] with every row divided by its sum: the walk is not allowed to leave S.

    Args:
        inner: operator of shape (*batch, N, N).
        keep: S, increasing token indices, (M,).

    Raises:
        ChainError: a kept token sends no probability to S.
    """

    def __init__(self, inner: Operator, keep: Tensor, sums: dict[torch.dtype, Tensor] | None = None) -> None:
        self.inner, self.keep = inner, keep
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure
        self._sums = sums if sums is not None else {}
        if sums is None:
            no_empty_rows(self._mass(self.dtype)[..., 0], keep)

    def matmul(self, x: Tensor) -> Tensor:
        return self._gather(self.inner.matmul(self._scatter(x))) / self._mass(x.dtype)

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._gather(self.inner.rmatmul(self._scatter(x / self._mass(x.dtype))))

    def support(self) -> Tensor:
        inner = self.inner.support()
        if is_everywhere(inner):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        return inner.index_select(-2, self.keep).index_select(-1, self.keep)

    def reshape(self, *batch: int) -> Restricted:
        sums = {d: s.reshape(*batch, -1, 1) for d, s in self._sums.items()}
        return Restricted(self.inner.reshape(*batch), self.keep, sums)

    def index(self, *index: Any) -> Restricted:
        return Restricted(self.inner.index(*index), self.keep, {d: s[index] for d, s in self._sums.items()})

    def _mass(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._sums:
            ones = torch.ones(*self.batch, len(self.keep), 1, dtype=dtype, device=self.device)
            self._sums[dtype] = self._gather(self.inner.matmul(self._scatter(ones)))
        return self._sums[dtype]

    def _scatter(self, x: Tensor) -> Tensor:
        full = x.new_zeros(*x.shape[:-2], self.inner.num_tokens, x.shape[-1])
        return full.index_copy(-2, self.keep, x)

    def _gather(self, x: Tensor) -> Tensor:
        return x.index_select(-2, self.keep)


class Censored(Operator):
    """A_SS + A_SR (I − A_RR)⁻¹ A_RS: the stochastic complement of the kept tokens S.

    Paths through the removed tokens R are kept: the walk is watched only while it is on S. Its
    stationary distribution is that of the whole chain, conditioned on S. One apply of the whole
    chain each, since A_SS x + A_SR (Wx) = (A z)_S for z = x on S and W x on R.

    Args:
        inner: operator of shape (*batch, N, N).
        keep: S, increasing token indices, (M,).
        removed: R, the other tokens, increasing, (r,).
        returns: W = (I − A_RR)⁻¹ A_RS, (*batch, r, M) in float64: where the walk comes back to S from
            every removed token. ``markov.censor`` computes it.

    Source: Meyer, "Stochastic complementation, uncoupling Markov chains, and the theory of nearly
    reducible systems" (1989).
    """

    def __init__(self, inner: Operator, keep: Tensor, removed: Tensor, returns: Tensor) -> None:
        self.inner, self.keep, self.removed, self.returns = inner, keep, removed, returns
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure

    def matmul(self, x: Tensor) -> Tensor:
        full = x.new_empty(*x.shape[:-2], self.inner.num_tokens, x.shape[-1])
        full = full.index_copy(-2, self.keep, x).index_copy(-2, self.removed, self.returns.to(x.dtype) @ x)
        return self.inner.matmul(full).index_select(-2, self.keep)

    def rmatmul(self, x: Tensor) -> Tensor:
        full = x.new_zeros(*x.shape[:-2], self.inner.num_tokens, x.shape[-1]).index_copy(-2, self.keep, x)
        image = self.inner.rmatmul(full)
        detour = image.index_select(-2, self.removed)
        return image.index_select(-2, self.keep) + self.returns.to(x.dtype).mT @ detour

    def support(self) -> Tensor:
        possible = self.inner.support().index_select(-2, self.keep)
        direct, there = possible.index_select(-1, self.keep), possible.index_select(-1, self.removed)
        return direct | (there.float() @ (self.returns > 0).float() > 0)

    def reshape(self, *batch: int) -> Censored:
        returns = self.returns.reshape(*batch, *self.returns.shape[-2:])
        return Censored(self.inner.reshape(*batch), self.keep, self.removed, returns)

    def index(self, *index: Any) -> Censored:
        return Censored(self.inner.index(*index), self.keep, self.removed, self.returns[index])
