"""Lazy walks and teleport: a step of attention now and then, or a jump (the PageRank correction)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import Measure, Operator, everywhere, is_everywhere
from .choice import Choice
from .rounding import few


class Teleport(Operator):
    """α A + (1 − α) 1 vᵀ: with probability 1 − α jump to a token drawn from v.

    Args:
        inner: operator of shape (*batch, N, N).
        alpha: probability of following attention, 0 … 1; a ``Choice`` where it depends on the token.
        jump: v, (*batch, N) in float64, a distribution.
    """

    def __init__(self, inner: Operator, alpha: float | Choice, jump: Tensor) -> None:
        self.inner, self.jump = inner, jump
        self.choice = alpha if isinstance(alpha, Choice) else Choice(alpha)
        self.shape, self.dtype, self.device, self._path = inner.shape, inner.dtype, inner.device, inner.path

    def matmul(self, x: Tensor) -> Tensor:
        follow, leap = self.choice.at(x.dtype)
        return follow * self.inner.matmul(x) + leap * (self.jump.to(x.dtype)[..., None, :] @ x)

    def rmatmul(self, x: Tensor) -> Tensor:
        follow, leap = self.choice.at(x.dtype)
        return self.inner.rmatmul(follow * x) + self.jump.to(x.dtype)[..., None] * (leap * x).sum(-2, keepdim=True)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.inner.rows(start, stop, dtype)
        follow, leap = self.choice.at(rows.dtype, slice(start, stop))
        return follow * rows + leap * self.jump.to(rows.dtype)[..., None, :]

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        columns = self.inner.columns(start, stop, dtype)
        follow, leap = self.choice.at(columns.dtype)
        return follow * columns + leap * self.jump.to(columns.dtype)[..., None, start:stop]

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        diagonal = self.inner.diagonal(dtype)
        follow, leap = self.choice.vectors(diagonal.dtype)
        return follow * diagonal + leap * self.jump.to(diagonal.dtype)

    def support(self) -> Tensor:
        n = self.num_tokens
        follow, leap = self.choice.possible()
        inner, aim = self.inner.support(), self.jump > 0
        if follow is True and (leap is False or is_everywhere(inner)):
            return inner
        if leap is True and bool(aim.all()):
            return everywhere(n, n, self.device)
        return (inner & follow) | (aim[..., None, :] & leap).expand(*self.batch, n, n)

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.choice.widened(self.inner.entry_error(dtype), dtype or self.dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        follow, leap = self.choice.logs()
        extra = 0.0 if self.choice.error is None else self.choice.error
        inner, image = self.inner.turn(measure.times(follow, extra))
        leaping = measure.log + leap
        landing = self.jump.log() + leaping.logsumexp(-1, keepdim=True)
        error = torch.maximum(image.error, measure.error + extra) + few(self.num_tokens, leaping)
        choice, whole = Choice.between(image.log, landing, 2 * error)  # of the jump, too
        back = torch.where(leaping.amax(-1, keepdim=True) > -math.inf, leaping, 0.0).softmax(-1)
        return Teleport(inner, choice, back), Measure(whole, error + few(2, whole))

    def reshape(self, *batch: int) -> Teleport:
        return Teleport(self.inner.reshape(*batch), self.choice.reshape(*batch), self.jump.reshape(*batch, -1))

    def index(self, *index: Any) -> Teleport:
        return Teleport(self.inner.index(*index), self.choice.index(*index), self.jump[index])


class Lazy(Operator):
    """(1 − β) I + β A: with probability β take a step, otherwise stay.

    With β = ½ this is a layer of attention rollout, where the residual connection counts as much
    as attention. Eigenvectors stay, eigenvalues become 1 − β + βλ, so that a periodic chain
    becomes an aperiodic one with the same stationary vector.

    Args:
        inner: operator of shape (*batch, N, N).
        beta: probability of a step, 0 … 1; a ``Choice`` where it depends on the token.
    """

    def __init__(self, inner: Operator, beta: float | Choice) -> None:
        self.inner = inner
        self.choice = beta if isinstance(beta, Choice) else Choice(beta)
        self.shape, self.dtype, self.device, self._path = inner.shape, inner.dtype, inner.device, inner.path
        self.structure = inner.structure

    def matmul(self, x: Tensor) -> Tensor:
        step, stay = self.choice.at(x.dtype)
        return stay * x + step * self.inner.matmul(x)

    def rmatmul(self, x: Tensor) -> Tensor:
        step, stay = self.choice.at(x.dtype)
        return stay * x + self.inner.rmatmul(step * x)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.inner.rows(start, stop, dtype)
        step, _ = self.choice.at(rows.dtype, slice(start, stop))
        return self._staying(step * rows, start, stop)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        columns = self.inner.columns(start, stop, dtype)
        step, _ = self.choice.at(columns.dtype)
        return self._staying((step * columns).mT, start, stop).mT

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        diagonal = self.inner.diagonal(dtype)
        step, stay = self.choice.vectors(diagonal.dtype)
        return stay + step * diagonal

    def support(self) -> Tensor:
        step, stay = self.choice.possible()
        inner = self.inner.support()
        if step is True and (stay is False or is_everywhere(inner)):
            return inner
        eye = torch.eye(self.num_tokens, dtype=torch.bool, device=self.device)
        return (inner & step) | (eye & stay)

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.choice.widened(self.inner.entry_error(dtype), dtype or self.dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        step, stay = self.choice.logs()
        extra = 0.0 if self.choice.error is None else self.choice.error
        inner, image = self.inner.turn(measure.times(step, extra))
        error = torch.maximum(image.error, measure.error + extra)
        choice, whole = Choice.between(image.log, measure.log + stay, error)
        return Lazy(inner, choice), Measure(whole, error + few(2, whole))

    def reshape(self, *batch: int) -> Lazy:
        return Lazy(self.inner.reshape(*batch), self.choice.reshape(*batch))

    def index(self, *index: Any) -> Lazy:
        return Lazy(self.inner.index(*index), self.choice.index(*index))

    def _staying(self, rows: Tensor, start: int, stop: int) -> Tensor:
        _, stay = self.choice.vectors(rows.dtype)
        rows[..., start:stop].diagonal(dim1=-2, dim2=-1).add_(
            stay[..., start:stop] if isinstance(stay, Tensor) else stay
        )
        return rows
