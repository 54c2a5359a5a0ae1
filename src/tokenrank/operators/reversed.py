"""Reversed chains, column-normalised: who attends to me."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ChainError
from .base import Operator, Structure

OPPOSITE: dict[Structure, Structure] = {"full": "full", "lower": "upper", "upper": "lower"}


class Reversed(Operator):
    """B[j, i] = A[i, j] / Σ_k A[k, j].

    Raises:
        ChainError: a token that nobody attends to has no row in the reversed chain.
    """

    def __init__(self, inner: Operator, sums: dict[torch.dtype, Tensor] | None = None) -> None:
        self.inner = inner
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device
        self.structure = OPPOSITE[inner.structure]
        self._sums = sums if sums is not None else {self.dtype: _attended(inner.column_sums())}

    def matmul(self, x: Tensor) -> Tensor:
        return self.inner.rmatmul(x) / self._columns(x.dtype)[..., None]

    def rmatmul(self, x: Tensor) -> Tensor:
        return self.inner.matmul(x / self._columns(x.dtype)[..., None])

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        columns = self.inner.columns(start, stop, dtype)
        return (columns / self._columns(columns.dtype)[..., None, start:stop]).mT

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.inner.rows(start, stop, dtype)
        return (rows / self._columns(rows.dtype)[..., None, :]).mT

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        diagonal = self.inner.diagonal(dtype)
        return diagonal / self._columns(diagonal.dtype)

    def support(self) -> Tensor:
        return self.inner.support().mT

    def reshape(self, *batch: int) -> Reversed:
        sums = {d: s.reshape(*batch, -1) for d, s in self._sums.items()}
        return Reversed(self.inner.reshape(*batch), sums)

    def index(self, *index: Any) -> Reversed:
        return Reversed(self.inner.index(*index), {d: s[index] for d, s in self._sums.items()})

    def _columns(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._sums:
            self._sums[dtype] = self.inner.column_sums(dtype)
        return self._sums[dtype]


def _attended(sums: Tensor) -> Tensor:
    if not (sums > 0).all():
        token = [int(i) for i in (~(sums > 0)).nonzero()[0]]
        raise ChainError(
            f"token {token[-1]} (chain {token[:-1]}) is attended to by nobody, so that the reversed chain has no "
            "row for it; restrict the chain to the other tokens first (padding?)"
        )
    return sums
