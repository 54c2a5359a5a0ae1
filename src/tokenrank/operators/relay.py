"""There and back: a square chain out of two rectangular steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator
from .kernel import Kernel


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
