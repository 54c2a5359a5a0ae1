"""Restricted and censored chains: on some of the tokens, rows renormalised, or watched only while there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import Measure, Operator, everywhere, is_everywhere
from .checks import no_empty_rows
from .choice import shares
from .rounding import few, half_eps, narrowing


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

    Reversed with respect to the measure that is its column sums on S and nothing elsewhere, the reversed chain has
    just these rows: twice turned round, each kind keeps its own form, and no row is too small to be divided.

    Args:
        inner: operator of shape (*batch, N, N).
        keep: S, increasing token indices, (M,).
        closed: a chain that never leaves S, in place of that one.

    Raises:
        ChainError: a kept token sends no probability to S.
    """

    def __init__(self, inner: Operator, keep: Tensor, closed: Operator | None = None) -> None:
        self.keep, self.closed = keep, _staying(inner, keep) if closed is None else closed
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure
        self._path = inner.path
        self._everywhere = closed is None and is_everywhere(inner.support())

    def matmul(self, x: Tensor) -> Tensor:
        return self._gather(self.closed.matmul(scattered(x, self.keep, self.closed.num_tokens)))

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._gather(self.closed.rmatmul(scattered(x, self.keep, self.closed.num_tokens)))

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.closed.diagonal(dtype).index_select(-1, self.keep)

    def support(self) -> Tensor:
        if self._everywhere:
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        return self.closed.support().index_select(-2, self.keep).index_select(-1, self.keep)

    @property
    def source(self) -> str:
        return self.closed.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.closed.entry_error(dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        back, image = self.closed.turn(on_kept(measure, self.keep, self.closed.num_tokens))
        return Restricted(back, self.keep, back), Measure(image.log.index_select(-1, self.keep), image.error)

    def reshape(self, *batch: int) -> Restricted:
        return self._like(self.closed.reshape(*batch))

    def index(self, *index: Any) -> Restricted:
        return self._like(self.closed.index(*index))

    def _like(self, closed: Operator) -> Restricted:
        new = Restricted(closed, self.keep, closed)
        new._everywhere = self._everywhere
        return new

    def _gather(self, x: Tensor) -> Tensor:
        return x.index_select(-2, self.keep)


def _staying(inner: Operator, keep: Tensor) -> Operator:
    back, sums = inner.turn(Measure.even(inner))
    inside = Measure(sums.log.index_select(-1, keep), sums.error)
    closed, mass = back.turn(on_kept(inside, keep, inner.num_tokens))
    no_empty_rows(mass.log.index_select(-1, keep) == -math.inf, keep)
    return closed


def on_kept(measure: Measure, keep: Tensor, n: int) -> Measure:
    """A measure over the kept tokens, (*batch, M), as one over all, (*batch, N)."""
    whole = measure.log.new_full((*measure.log.shape[:-1], n), -math.inf)
    return Measure(whole.index_copy(-1, keep, measure.log), measure.error)


def scattered(x: Tensor, keep: Tensor, n: int) -> Tensor:
    """Numbers for the kept tokens, (*batch, M, c), as numbers for all, (*batch, N, c): zero for the others."""
    return x.new_zeros(*x.shape[:-2], n, x.shape[-1]).index_copy(-2, keep, x)


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
        error: relative error of W, (*batch,); by default that of an elimination of A in double precision.
        arrives: where W is positive, bool (*batch, r, M); by default where its numbers are.

    Source: Meyer, "Stochastic complementation, uncoupling Markov chains, and the theory of nearly
    reducible systems" (1989).
    """

    def __init__(
        self,
        inner: Operator,
        keep: Tensor,
        removed: Tensor,
        returns: Tensor,
        error: Tensor | None = None,
        arrives: Tensor | None = None,
    ) -> None:
        self.inner, self.keep, self.removed, self.returns, self.error = inner, keep, removed, returns, error
        self.arrives = returns > 0 if arrives is None else arrives
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure
        self._path = inner.path

    def matmul(self, x: Tensor) -> Tensor:
        full = x.new_empty(*x.shape[:-2], self.inner.num_tokens, x.shape[-1])
        full = full.index_copy(-2, self.keep, x).index_copy(-2, self.removed, self.returns.to(x.dtype) @ x)
        return self.inner.matmul(full).index_select(-2, self.keep)

    def rmatmul(self, x: Tensor) -> Tensor:
        image = self.inner.rmatmul(scattered(x, self.keep, self.inner.num_tokens))
        detour = image.index_select(-2, self.removed)
        return image.index_select(-2, self.keep) + self.returns.to(x.dtype).mT @ detour

    def support(self) -> Tensor:
        possible = self.inner.support().index_select(-2, self.keep)
        direct, there = possible.index_select(-1, self.keep), possible.index_select(-1, self.removed)
        return direct | (there.float() @ self.arrives.float() > 0)

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return self.inner.entry_error(dtype) + self._returns_error() + narrowing(torch.float64, dtype)

    def _returns_error(self) -> Tensor:
        if self.error is not None:
            return self.error
        return returns_error(len(self.removed), self.inner.entry_error(torch.float64))

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        back, image = self.inner.turn(on_kept(measure, self.keep, self.inner.num_tokens))
        direct, there = (image.log.index_select(-1, tokens) for tokens in (self.keep, self.removed))
        by_way = there[..., None, :] + self.returns.mT.log()
        whole = torch.logaddexp(direct, by_way.logsumexp(-1))
        error = image.error + self._returns_error() + few(len(self.removed), by_way.flatten(-2))
        parts = shares(torch.cat([direct[..., None], by_way], -1), -1)
        possible = torch.cat([direct[..., None], there[..., None, :].expand(by_way.shape)], -1) > -torch.inf
        possible[..., 1:] &= self.arrives.mT
        turned = ReversedCensored(back, self.keep, self.removed, parts, possible, 2 * error)
        return turned, Measure(whole, error)

    def reshape(self, *batch: int) -> Censored:
        returns, arrives = (t.reshape(*batch, *t.shape[-2:]) for t in (self.returns, self.arrives))
        error = None if self.error is None else self.error.reshape(batch)
        return Censored(self.inner.reshape(*batch), self.keep, self.removed, returns, error, arrives)

    def index(self, *index: Any) -> Censored:
        error = None if self.error is None else self.error[index]
        inner, returns, arrives = self.inner.index(*index), self.returns[index], self.arrives[index]
        return Censored(inner, self.keep, self.removed, returns, error, arrives)


def returns_error(r: int, entry_error: Tensor) -> Tensor:
    """A bound of the relative error of W, eliminated in double precision from A off by ``entry_error``, (*batch,)."""
    # entries of W are quotients of sums of products of r probabilities (the matrix-tree theorem), so that their
    # relative errors count 2 r times; eliminating a token rounds r + 4 times
    return 2 * r * (entry_error + 2 * r * (r + 4) * half_eps(torch.float64))


class ReversedCensored(Operator):
    """A censored chain turned round: where the walk on S comes from, a step of the reversed chain after a detour.

    Args:
        inner: the reversed chain of all tokens, (*batch, N, N), which leads into S only.
        keep: S, (M,).
        removed: R, (r,).
        origins: probability that there was no detour, and that it began at each removed token, (*batch, M, 1 + r) in
            float64.
        possible: where those are positive, bool, also where float64 has no number for it.
        error: relative error of these, (*batch,).
    """

    def __init__(
        self, inner: Operator, keep: Tensor, removed: Tensor, origins: Tensor, possible: Tensor, error: Tensor
    ) -> None:
        self.inner, self.keep, self.removed = inner, keep, removed
        self.origins, self.possible, self.error = origins, possible, error
        self.direct, self.detours = origins[..., 0], origins[..., 1:]
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure
        self._path = inner.path

    def matmul(self, x: Tensor) -> Tensor:
        y = self.inner.matmul(scattered(x, self.keep, self.inner.num_tokens))
        straight = self.direct[..., None].to(x.dtype) * y.index_select(-2, self.keep)
        return straight + self.detours.to(x.dtype) @ y.index_select(-2, self.removed)

    def rmatmul(self, x: Tensor) -> Tensor:
        full = scattered(self.direct[..., None].to(x.dtype) * x, self.keep, self.inner.num_tokens)
        full = full.index_copy(-2, self.removed, self.detours.to(x.dtype).mT @ x)
        return self.inner.rmatmul(full).index_select(-2, self.keep)

    def support(self) -> Tensor:
        into = self.inner.support().index_select(-1, self.keep)
        straight = into.index_select(-2, self.keep) & self.possible[..., :1]
        return straight | (self.possible[..., 1:].float() @ into.index_select(-2, self.removed).float() > 0)

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.inner.entry_error(dtype) + self.error + narrowing(torch.float64, dtype or self.dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        n = self.inner.num_tokens
        by_way = measure.log[..., None] + self.detours.log()
        there = by_way.logsumexp(-2)
        extra = self.error + few(len(self.keep), by_way.flatten(-2))
        whole = on_kept(measure.times(self.direct.log(), extra), self.keep, n)
        ahead, image = self.inner.turn(Measure(whole.log.index_copy(-1, self.removed, there), whole.error))
        returns = shares(by_way, -2).mT
        result = Measure(image.log.index_select(-1, self.keep), image.error)
        arrives = (self.possible[..., 1:] & (measure.log[..., None] > -torch.inf)).mT
        return Censored(ahead, self.keep, self.removed, returns, 2 * whole.error, arrives), result

    def reshape(self, *batch: int) -> ReversedCensored:
        return self._part(self.inner.reshape(*batch), lambda t, rest: t.reshape((*batch, *t.shape[t.ndim - rest :])))

    def index(self, *index: Any) -> ReversedCensored:
        return self._part(self.inner.index(*index), lambda t, rest: t[index])

    def _part(self, inner: Operator, part: Callable[[Tensor, int], Tensor]) -> ReversedCensored:
        origins, possible, error = part(self.origins, 2), part(self.possible, 2), part(self.error, 0)
        return ReversedCensored(inner, self.keep, self.removed, origins, possible, error)
