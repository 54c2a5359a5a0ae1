"""Bipartite chains of cross-attention: image tokens that step over to text tokens, for good or there and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator


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


class Kernel:
    """Cross-attention: C[..., i, j] is the probability of going from token i of one set to token j of another.

    Args:
        weights: (*batch, N, M), rows summing to one up to rounding. Asked for in another precision, rows
            are divided by their exact sums, so that no mass is lost.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.shape, self.dtype = weights.shape, weights.dtype

    def matmul(self, x: Tensor) -> Tensor:
        """C x for x (*batch, M, c), in the dtype of x: (*batch, N, c)."""
        return self.dense(x.dtype) @ x

    def rmatmul(self, x: Tensor) -> Tensor:
        """Cᵀ x for x (*batch, N, c), in the dtype of x: (*batch, M, c)."""
        return (x.mT @ self.dense(x.dtype)).mT

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights, (*batch, N, M)."""
        if dtype in (None, self.dtype):
            return self.weights
        wide = self.weights.to(dtype)
        return wide / wide.sum(-1, keepdim=True)

    def support(self) -> Tensor:
        """Where a step is possible: bool (*batch, N, M)."""
        return self.weights > 0

    def reshape(self, *batch: int) -> Kernel:
        """The same weights with other leading dimensions."""
        return Kernel(self.weights.reshape(*batch, *self.shape[-2:]))

    def index(self, *index: Any) -> Kernel:
        """Those that ``index`` selects from the batch."""
        return Kernel(self.weights[index])


class Relay(Operator):
    """C R: from image tokens over to text tokens and back, in one step; rank at most M.

    Args:
        out: C, (*batch, N, M).
        back: R, (*batch, M, N).
    """

    def __init__(self, out: Kernel, back: Kernel) -> None:
        self.out, self.back = out, back
        n = out.shape[-2]
        self.shape = torch.Size((*out.shape[:-2], n, n))
        self.dtype, self.device = torch.promote_types(out.dtype, back.dtype), out.weights.device

    def matmul(self, x: Tensor) -> Tensor:
        return self.out.matmul(self.back.matmul(x))

    def rmatmul(self, x: Tensor) -> Tensor:
        return self.back.rmatmul(self.out.rmatmul(x))

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return self.out.dense(dtype)[..., start:stop, :] @ self.back.dense(dtype)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return (self.out.dense(dtype) * self.back.dense(dtype).mT).sum(-1)

    def support(self) -> Tensor:
        return self.out.support().float() @ self.back.support().float() > 0

    def reshape(self, *batch: int) -> Relay:
        return Relay(self.out.reshape(*batch), self.back.reshape(*batch))

    def index(self, *index: Any) -> Relay:
        return Relay(self.out.index(*index), self.back.index(*index))
