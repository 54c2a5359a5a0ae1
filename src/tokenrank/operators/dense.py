"""A materialised chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator, Structure


class Dense(Operator):
    """Weights (*batch, N, N) in memory; rows sum to one (``checks.stochastic`` sees to that).

    In single precision rows sum to one up to rounding only. Asked for in double precision the
    chain is that of the rows divided by their exact sums, so that no mass is lost.
    """

    def __init__(self, weights: Tensor, structure: Structure = "full") -> None:
        self.weights = weights
        self.shape, self.dtype, self.device = weights.shape, weights.dtype, weights.device
        self.structure = structure

    def matmul(self, x: Tensor) -> Tensor:
        if x.dtype == self.dtype:
            return self.weights @ x
        return torch.cat([self.rows(*block, x.dtype) @ x for block in self.blocks(x.dtype)], -2)

    def rmatmul(self, x: Tensor) -> Tensor:
        # the row-major product: Aᵀx as such reads A column by column, twenty times slower on CPU
        if x.dtype == self.dtype:
            return (x.mT @ self.weights).mT
        out = torch.zeros((), dtype=x.dtype, device=x.device)
        for start, stop in self.blocks(x.dtype):
            block = self.weights[..., start:stop, :].to(x.dtype)
            out = out + (x[..., start:stop, :] / block.sum(-1, keepdim=True)).mT @ block
        return out.mT

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.weights[..., start:stop, :]
        if dtype in (None, self.dtype):
            return rows
        rows = rows.to(dtype)
        return rows / rows.sum(-1, keepdim=True)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        columns = self.weights[..., start:stop]
        if dtype in (None, self.dtype):
            return columns
        return columns.to(dtype) / self.weights.sum(-1, keepdim=True, dtype=dtype)

    def to_dense(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.rows(0, self.num_tokens, dtype)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        diagonal = self.weights.diagonal(dim1=-2, dim2=-1)
        return diagonal if dtype in (None, self.dtype) else diagonal.to(dtype) / self.weights.sum(-1, dtype=dtype)

    def support(self) -> Tensor:
        return self.weights > 0

    def reshape(self, *batch: int) -> Dense:
        return Dense(self.weights.reshape(*batch, *self.shape[-2:]), self.structure)

    def index(self, *index: Any) -> Dense:
        return Dense(self.weights[index], self.structure)

    def restrict(self, keep: Tensor) -> Operator:
        from .checks import renormalised

        block = self.weights.index_select(-2, keep).index_select(-1, keep)
        return Dense(renormalised(block, keep), self.structure)
