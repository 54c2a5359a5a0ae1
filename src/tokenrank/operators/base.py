"""Operator: the contract that every chain fulfils, as a matrix to multiply with, built or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ChainError

Structure = Literal["full", "lower", "upper"]

BLOCK_BYTES = 4 * 2**20  # one block of rows stays in the cache, and costs no fresh pages
BLOCK_ROWS = 64  # but has enough rows for an efficient product


class Operator(ABC):
    """A batch of row-stochastic N × N matrices, perhaps never materialised.

    ``A[..., i, j]`` is the probability of going from token i to token j. An operator is
    applied in the precision of the tensor that it is given: a float32 operator times a
    float64 vector is computed in float64. That is what certificates rest on.

    ``A @ x`` and ``A.T @ x`` take a vector a chain, (*batch, N), or columns, (*batch, N, c).

    A subclass supplies ``matmul``, ``rmatmul``, ``support``, ``reshape`` and ``index``, and whatever
    of the rest it can do faster.
    """

    shape: torch.Size  # (*batch, N, N)
    dtype: torch.dtype
    device: torch.device
    structure: Structure = "full"  # "lower": causal, A[i, j] = 0 for j > i; "upper": its reverse

    @property
    def batch(self) -> torch.Size:
        """The leading dimensions, heads last."""
        return self.shape[:-2]

    @property
    def num_tokens(self) -> int:
        """N, the number of states."""
        return self.shape[-1]

    @property
    def T(self) -> Transposed:  # noqa: N802  the name that torch and numpy give it
        """Aᵀ, to multiply with: ``A.T @ x``. Its rows do not sum to one, so that it is no chain."""
        return Transposed(self)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A x for vectors (*batch, N) or columns (*batch, N, c), in the dtype of x.

        Raises:
            ChainError: x of another shape; leading dimensions are never broadcast.
        """
        return _applied(self.matmul, self.shape, x)

    @abstractmethod
    def matmul(self, x: Tensor) -> Tensor:
        """A x for x of shape (*batch, N, c), in the dtype of x."""

    @abstractmethod
    def rmatmul(self, x: Tensor) -> Tensor:
        """Aᵀ x for x of shape (*batch, N, c), in the dtype of x."""

    @abstractmethod
    def support(self) -> Tensor:
        """Where a step is possible: bool, broadcastable to (*batch, N, N).

        Exact from masks: a softmax is positive wherever it is not masked, also where it underflows.
        Where every step is possible the tensor is ``everywhere`` and takes no memory.
        """

    @abstractmethod
    def reshape(self, *batch: int) -> Operator:
        """The same matrices with other leading dimensions."""

    @abstractmethod
    def index(self, *index: Any) -> Operator:
        """The matrices that ``index`` selects from the batch; one entry a batch dimension."""

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        """Rows start … stop−1, (*batch, stop − start, N)."""
        return self.rmatmul(self._units(start, stop, dtype)).mT

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        """Columns start … stop−1, (*batch, N, stop − start)."""
        return self.matmul(self._units(start, stop, dtype))

    def to_dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """All of A, (*batch, N, N)."""
        out = torch.empty(self.shape, dtype=dtype or self.dtype, device=self.device)
        for start, stop in self.blocks():
            out[..., start:stop, :] = self.rows(start, stop, dtype)
        return out

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        """A[..., i, i], (*batch, N)."""
        parts = [
            self.rows(start, stop, dtype)[..., start:stop].diagonal(dim1=-2, dim2=-1) for start, stop in self.blocks()
        ]
        return torch.cat(parts, -1)

    def column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        """Σ_i A[..., i, j], (*batch, N)."""
        return self.T @ torch.ones(*self.batch, self.num_tokens, dtype=dtype or self.dtype, device=self.device)

    def row_entropies(self, dtype: torch.dtype | None = None) -> Tensor:
        """−Σ_j A[..., i, j] log A[..., i, j] in nats, (*batch, N)."""
        parts = [torch.special.entr(self.rows(*block, dtype)).sum(-1) for block in self.blocks(dtype)]
        return torch.cat(parts, -1).clamp(min=0)  # a probability rounded to just above one counts as one

    def restricted(self, keep: Tensor) -> Operator | None:
        """The chain on the tokens ``keep`` where this kind has a form of its own for it; see ``restrict``."""
        return None

    def blocks(self, dtype: torch.dtype | None = None) -> Iterator[tuple[int, int]]:
        """Ranges of rows whose blocks take about ``BLOCK_BYTES``, or ``BLOCK_ROWS`` rows if that is more."""
        n = self.num_tokens
        row = max(1, math.prod(self.batch)) * n * (dtype or self.dtype).itemsize
        size = min(n, max(BLOCK_ROWS, BLOCK_BYTES // row))
        return ((start, min(start + size, n)) for start in range(0, n, size))

    def _units(self, start: int, stop: int, dtype: torch.dtype | None) -> Tensor:
        eye = torch.zeros(self.num_tokens, stop - start, dtype=dtype or self.dtype, device=self.device)
        eye[start:stop].fill_diagonal_(1)
        return eye.expand(*self.batch, -1, -1)


class Transposed:
    """Aᵀ of an operator A: nothing but a product, ``A.T @ x``."""

    def __init__(self, operator: Operator) -> None:
        self.T = operator

    def __matmul__(self, x: Tensor) -> Tensor:
        """Aᵀ x for vectors (*batch, N) or columns (*batch, N, c), in the dtype of x; see ``Operator``."""
        return _applied(self.T.rmatmul, self.T.shape, x)


def _applied(product: Callable[[Tensor], Tensor], shape: torch.Size, x: Tensor) -> Tensor:
    """A product that takes columns, of columns or of vectors."""
    if x.shape == shape[:-1]:
        return product(x[..., None])[..., 0]
    if x.shape[:-1] == shape[:-1]:
        return product(x)
    raise ChainError(
        f"x has shape {tuple(x.shape)}, expected {tuple(shape[:-1])}, a vector a chain, or {(*shape[:-1], 'c')}, "
        "columns; expand it to the leading dimensions first"
    )


def everywhere(rows: int, columns: int, device: torch.device) -> Tensor:
    """All True, (rows, columns), in the memory of one element."""
    return torch.ones(1, 1, dtype=torch.bool, device=device).expand(rows, columns)


def is_everywhere(support: Tensor) -> bool:
    """Whether a support was made by ``everywhere``: known to be True without looking at it."""
    return support.stride()[-2:] == (0, 0) and bool(support[..., 0, 0].all())
