"""Dense chains: weights in memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import Measure, Operator, Structure
from .checks import renormalised
from .device.path import Path
from .factors import Factors
from .reweighted import Reweighted
from .rounding import WEIGHTS, few, stored

# in double precision at a time: on CPU what stays in the cache from the copy to the product, elsewhere few launches
WIDE_BYTES = {"cpu": 2 * 2**20}
WIDE_BYTES_ELSEWHERE = 256 * 2**20


class Dense(Operator):
    """Weights (*batch, N, N) in memory; rows sum to one (``checks.stochastic`` sees to that).

    In single precision rows sum to one up to rounding only. Asked for in double precision the
    chain is that of the rows divided by their exact sums, so that no mass is lost.
    """

    def __init__(self, weights: Tensor, structure: Structure = "full", path: Path | None = None) -> None:
        self.weights, self._path = weights, path
        self.shape, self.dtype, self.device = weights.shape, weights.dtype, weights.device
        self.structure = structure
        self._sums: Tensor | None = None

    def matmul(self, x: Tensor) -> Tensor:
        y = self.product(x, False)
        return y if x.dtype == self.dtype else y / self._row_sums(x.dtype)

    def rmatmul(self, x: Tensor) -> Tensor:
        return self.product(x if x.dtype == self.dtype else x / self._row_sums(x.dtype), True)

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

    @property
    def source(self) -> str:
        return WEIGHTS

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return stored(self.weights, dtype or self.dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        def log(dtype: torch.dtype) -> Tensor:  # rows count as ``matmul`` takes them
            return measure.log if dtype == self.dtype else measure.log - self._row_sums(dtype)[..., 0].log()

        def error(dtype: torch.dtype) -> Tensor:
            return measure.error + few(self.num_tokens, measure.log) + stored(self.weights, dtype)

        turned = Reweighted(self, True, Factors(log, error, measure.hidden))
        return turned, turned.image()

    def product(self, x: Tensor, transposed: bool) -> Tensor:
        """The weights or their transpose times x (*batch, N, c), in the dtype of x, rows as they are."""
        if x.dtype != self.dtype:
            return self._wide(x, transposed)
        # Wᵀx as such reads W column by column, twenty times slower on CPU than the row-major product
        return (x.mT @ self.weights).mT if transposed else self.weights @ x

    def reshape(self, *batch: int) -> Dense:
        return Dense(self.weights.reshape(*batch, *self.shape[-2:]), self.structure, self._path)

    def index(self, *index: Any) -> Dense:
        return Dense(self.weights[index], self.structure, self._path)

    def restricted(self, keep: Tensor) -> Dense:
        block = self.weights.index_select(-2, keep).index_select(-1, keep)
        return Dense(renormalised(block, keep), self.structure, self._path)

    def _row_sums(self, dtype: torch.dtype) -> Tensor:
        """Sums of the rows as they are, (*batch, N, 1)."""
        if self._sums is None or self._sums.dtype != dtype:
            ones = torch.ones(*self.batch, self.num_tokens, 1, dtype=dtype, device=self.device)
            self._sums = self._wide(ones, False)
        return self._sums

    def _wide(self, x: Tensor, transposed: bool) -> Tensor:
        """Weights or their transpose times x in the dtype of x, (*batch, N, c), rows as they are.

        A few heads and rows at a time, so that no whole copy in that dtype is made.
        """
        n, heads = self.num_tokens, math.prod(self.batch)
        row = n * x.dtype.itemsize
        room = WIDE_BYTES.get(self.device.type, WIDE_BYTES_ELSEWHERE)
        few, some = max(1, room // (n * row)), max(1, room // row)
        weights, vectors = self.weights.reshape(heads, n, n), x.reshape(heads, n, x.shape[-1])
        products = []
        for part, columns in zip(weights.split(few), vectors.split(few), strict=True):
            blocks = part.split(some, 1)
            if transposed:
                terms = [c.mT @ b.to(x.dtype) for c, b in zip(columns.split(some, 1), blocks, strict=True)]
                products.append(sum(terms[1:], terms[0]).mT)
            else:
                products.append(torch.cat([b.to(x.dtype) @ columns for b in blocks], 1))
        return torch.cat(products).reshape(x.shape)
