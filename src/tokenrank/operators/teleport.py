"""Lazy walks and teleport: a step of attention now and then, or a jump (the PageRank correction)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator, everywhere, is_everywhere


class Teleport(Operator):
    """α A + (1 − α) 1 vᵀ: with probability 1 − α jump to a token drawn from v.

    Args:
        inner: operator of shape (*batch, N, N).
        alpha: probability of following attention, 0 … 1.
        jump: v, (*batch, N) in float64, a distribution.
    """

    def __init__(self, inner: Operator, alpha: float, jump: Tensor) -> None:
        self.inner, self.alpha, self.jump = inner, alpha, jump
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device

    def matmul(self, x: Tensor) -> Tensor:
        v = self.jump.to(x.dtype)[..., None, :]
        return self.alpha * self.inner.matmul(x) + (1 - self.alpha) * (v @ x)

    def rmatmul(self, x: Tensor) -> Tensor:
        v = self.jump.to(x.dtype)[..., None]
        return self.alpha * self.inner.rmatmul(x) + (1 - self.alpha) * v * x.sum(-2, keepdim=True)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.inner.rows(start, stop, dtype)
        return self.alpha * rows + (1 - self.alpha) * self.jump.to(rows.dtype)[..., None, :]

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        columns = self.inner.columns(start, stop, dtype)
        return self.alpha * columns + (1 - self.alpha) * self.jump.to(columns.dtype)[..., None, start:stop]

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        diagonal = self.inner.diagonal(dtype)
        return self.alpha * diagonal + (1 - self.alpha) * self.jump.to(diagonal.dtype)

    def support(self) -> Tensor:
        jump = (self.jump > 0)[..., None, :].expand(*self.batch, self.num_tokens, self.num_tokens)
        inner = self.inner.support()
        if self.alpha == 1 or (is_everywhere(inner) and self.alpha > 0):
            return inner
        if bool((self.jump > 0).all()):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        return jump if self.alpha == 0 else inner | jump

    def reshape(self, *batch: int) -> Teleport:
        return Teleport(self.inner.reshape(*batch), self.alpha, self.jump.reshape(*batch, -1))

    def index(self, *index: Any) -> Teleport:
        return Teleport(self.inner.index(*index), self.alpha, self.jump[index])


class Lazy(Operator):
    """(1 − β) I + β A: with probability β take a step, otherwise stay.

    With β = ½ this is a layer of attention rollout, where the residual connection counts as much
    as attention. Eigenvectors stay, eigenvalues become 1 − β + βλ, so that a periodic chain
    becomes an aperiodic one with the same stationary vector.

    Args:
        inner: operator of shape (*batch, N, N).
        beta: probability of a step, 0 … 1.
    """

    def __init__(self, inner: Operator, beta: float) -> None:
        self.inner, self.beta = inner, beta
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device
        self.structure = inner.structure

    def matmul(self, x: Tensor) -> Tensor:
        return (1 - self.beta) * x + self.beta * self.inner.matmul(x)

    def rmatmul(self, x: Tensor) -> Tensor:
        return (1 - self.beta) * x + self.beta * self.inner.rmatmul(x)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._staying(self.inner.rows(start, stop, dtype).clone(), start, stop)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._staying(self.inner.columns(start, stop, dtype).mT.clone(), start, stop).mT

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return 1 - self.beta + self.beta * self.inner.diagonal(dtype)

    def support(self) -> Tensor:
        eye = torch.eye(self.num_tokens, dtype=torch.bool, device=self.device)
        if self.beta == 0:
            return eye
        inner = self.inner.support()
        return inner if self.beta == 1 or is_everywhere(inner) else inner | eye

    def reshape(self, *batch: int) -> Lazy:
        return Lazy(self.inner.reshape(*batch), self.beta)

    def index(self, *index: Any) -> Lazy:
        return Lazy(self.inner.index(*index), self.beta)

    def _staying(self, rows: Tensor, start: int, stop: int) -> Tensor:
        rows = rows * self.beta
        rows[..., start:stop].diagonal(dim1=-2, dim2=-1).add_(1 - self.beta)
        return rows
