"""The PageRank correction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator
from .everywhere import everywhere, is_everywhere


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
