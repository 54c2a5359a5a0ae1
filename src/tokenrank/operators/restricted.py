"""A chain on some of its tokens, rows renormalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Operator
from .checks import no_empty_rows
from .everywhere import everywhere, is_everywhere


class Restricted(Operator):
    """A[S, S] with every row divided by its sum: the walk is not allowed to leave S.

    Args:
        inner: operator of shape (*batch, N, N).
        keep: S, increasing token indices, (M,).

    Raises:
        ChainError: a kept token sends no probability to S.
    """

    def __init__(self, inner: Operator, keep: Tensor, sums: dict[torch.dtype, Tensor] | None = None) -> None:
        self.inner, self.keep = inner, keep
        self.shape = torch.Size((*inner.batch, len(keep), len(keep)))
        self.dtype, self.device, self.structure = inner.dtype, inner.device, inner.structure
        self._sums = sums if sums is not None else {}
        if sums is None:
            no_empty_rows(self._mass(self.dtype)[..., 0], keep)

    def matmul(self, x: Tensor) -> Tensor:
        return self._gather(self.inner.matmul(self._scatter(x))) / self._mass(x.dtype)

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._gather(self.inner.rmatmul(self._scatter(x / self._mass(x.dtype))))

    def support(self) -> Tensor:
        inner = self.inner.support()
        if is_everywhere(inner):
            return everywhere(self.num_tokens, self.num_tokens, self.device)
        return inner.index_select(-2, self.keep).index_select(-1, self.keep)

    def reshape(self, *batch: int) -> Restricted:
        sums = {d: s.reshape(*batch, -1, 1) for d, s in self._sums.items()}
        return Restricted(self.inner.reshape(*batch), self.keep, sums)

    def index(self, *index: Any) -> Restricted:
        return Restricted(self.inner.index(*index), self.keep, {d: s[index] for d, s in self._sums.items()})

    def _mass(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._sums:
            ones = torch.ones(*self.batch, len(self.keep), 1, dtype=dtype, device=self.device)
            self._sums[dtype] = self._gather(self.inner.matmul(self._scatter(ones)))
        return self._sums[dtype]

    def _scatter(self, x: Tensor) -> Tensor:
        full = x.new_zeros(*x.shape[:-2], self.inner.num_tokens, x.shape[-1])
        return full.index_copy(-2, self.keep, x)

    def _gather(self, x: Tensor) -> Tensor:
        return x.index_select(-2, self.keep)
