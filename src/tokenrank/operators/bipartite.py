"""Image tokens that walk among themselves and step over to text tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator
from .kernel import Kernel


class Bipartite(Operator):
    """[[(1 − p) A, p C], [0, I]]: N tokens that walk by A, M tokens that absorb.

    At every step the walk crosses over with probability p. C is no square matrix and no chain by
    itself; this is one, of N + M tokens, the absorbing ones last.

    Args:
        inner: A, operator of shape (*batch, N, N).
        cross: C, (*batch, N, M).
        step: p, 0 … 1.
    """

    def __init__(self, inner: Operator, cross: Kernel, step: float) -> None:
        self.inner, self.cross, self.step = inner, cross, step
        self.walking, self.absorbing = cross.shape[-2:]
        size = self.walking + self.absorbing
        self.shape = torch.Size((*inner.batch, size, size))
        self.dtype, self.device = torch.promote_types(inner.dtype, cross.dtype), inner.device

    def matmul(self, x: Tensor) -> Tensor:
        here, there = self._parts(x)
        above = (1 - self.step) * self.inner.matmul(here) + self.step * self.cross.matmul(there)
        return torch.cat([above, there], -2)

    def rmatmul(self, x: Tensor) -> Tensor:
        here, there = self._parts(x)
        left = (1 - self.step) * self.inner.rmatmul(here)
        return torch.cat([left, self.step * self.cross.rmatmul(here) + there], -2)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        walking = (1 - self.step) * self.inner.diagonal(dtype or self.dtype)
        return torch.cat([walking, walking.new_ones(*self.batch, self.absorbing)], -1)

    def support(self) -> Tensor:
        square, over = self.inner.support(), self.cross.support()
        leading = torch.broadcast_shapes(square.shape[:-2], over.shape[:-2])
        possible = torch.zeros(*leading, *self.shape[-2:], dtype=torch.bool, device=self.device)
        n = self.walking
        possible[..., :n, :n] = square if self.step < 1 else False
        possible[..., :n, n:] = over if self.step > 0 else False
        possible[..., n:, n:] = torch.eye(self.absorbing, dtype=torch.bool, device=self.device)
        return possible

    def reshape(self, *batch: int) -> Bipartite:
        return Bipartite(self.inner.reshape(*batch), self.cross.reshape(*batch), self.step)

    def index(self, *index: Any) -> Bipartite:
        return Bipartite(self.inner.index(*index), self.cross.index(*index), self.step)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., : self.walking, :], x[..., self.walking :, :]
