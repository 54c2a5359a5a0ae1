"""One chain from many heads: at each step a head is drawn, and the walk follows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator
from .everywhere import everywhere, is_everywhere


class Mixture(Operator):
    """Σ_h w_h A_h over the last batch dimension of ``heads``.

    Args:
        heads: operator of shape (*batch, H, N, N).
        weights: (*batch, H) in float64, non-negative, summing to one over H.
    """

    def __init__(self, heads: Operator, weights: Tensor) -> None:
        self.heads, self.weights = heads, weights
        self.shape = torch.Size((*heads.shape[:-3], *heads.shape[-2:]))
        self.dtype, self.device, self.structure = heads.dtype, heads.device, heads.structure

    def matmul(self, x: Tensor) -> Tensor:
        return self._sum(self.heads.matmul(self._spread(x)))

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._sum(self.heads.rmatmul(self._spread(x)))

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.rows(start, stop, dtype))

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.columns(start, stop, dtype))

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._sum(self.heads.diagonal(dtype)[..., None])[..., 0]

    def support(self) -> Tensor:
        heads = self.heads.support()
        if is_everywhere(heads):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        used = self.weights > 0
        return (heads & used[..., None, None]).any(-3)

    def reshape(self, *batch: int) -> Mixture:
        h = self.weights.shape[-1]
        return Mixture(self.heads.reshape(*batch, h), self.weights.reshape(*batch, h))

    def index(self, *index: Any) -> Mixture:
        return Mixture(self.heads.index(*index), self.weights[index])

    def _spread(self, x: Tensor) -> Tensor:
        return x[..., None, :, :].expand(*self.heads.batch, -1, -1)

    def _sum(self, per_head: Tensor) -> Tensor:
        return torch.einsum("...h,...hij->...ij", self.weights.to(per_head.dtype), per_head)
