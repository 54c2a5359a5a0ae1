"""Steps from one set of tokens to another: rectangular row-stochastic weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
