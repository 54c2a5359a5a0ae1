"""Operator: the contract that every chain fulfils, as a matrix to multiply with, built or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ChainError
from .device.path import Path, path_for
from .factors import some

Structure = Literal["full", "lower", "upper"]
OPPOSITE: dict[Structure, Structure] = {"full": "full", "lower": "upper", "upper": "lower"}

BLOCK_BYTES = 2**20  # one block of rows stays in the cache, and costs no fresh pages
# where all of A is made: threads meet at every operation on a block, and wait for each other where cores are shared
BUILD_BYTES = 16 * 2**20
BLOCK_ROWS = 64  # but has enough rows for an efficient product
BLOCK_BYTES_ELSEWHERE = 256 * 2**20  # on a GPU, where launches cost more than memory


class Measure:
    """Non-negative numbers over the tokens, (*batch, N), by their logarithms in float64.

    Args:
        log: −∞ for a token that has none; or what computes them when they are first asked for.
        error: a proved bound of what each of them is off by, (*batch,) in float64, or what computes it.
        nowhere: computes which tokens have none, from masks alone, where that costs less; None where every token has
            some.
    """

    def __init__(
        self,
        log: Tensor | Callable[[], Tensor],
        error: Tensor | Callable[[], Tensor],
        nowhere: Callable[[], Tensor | None] | None = None,
    ) -> None:
        self._log, self._error, self._nowhere = log, error, nowhere
        self._hides: tuple[Tensor | None] | None = None  # hidden(), looked at once

    @classmethod
    def even(cls, operator: Operator) -> Measure:
        """One for every token."""
        zeros = torch.zeros(*operator.batch, operator.num_tokens, dtype=torch.float64, device=operator.device)
        return cls(zeros, zeros[..., 0], lambda: None)

    @property
    def log(self) -> Tensor:
        """The logarithms, (*batch, N)."""
        if not isinstance(self._log, Tensor):
            self._log = self._log()
        return self._log

    @property
    def error(self) -> Tensor:
        """What each of them may be off by, (*batch,)."""
        if not isinstance(self._error, Tensor):
            self._error = self._error()
        return self._error

    @property
    def nowhere(self) -> Tensor:
        """Which tokens have none: bool, broadcastable to (*batch, N)."""
        found = self._missing()
        return torch.zeros((), dtype=torch.bool, device=self.log.device) if found is None else found

    def hidden(self) -> Tensor | None:
        """Which tokens have none, (N,) where all chains agree; None where every token has some."""
        if self._hides is None:
            found = self._missing()
            self._hides = (None if found is None else some(torch.atleast_1d(found)),)
        return self._hides[0]

    def _missing(self) -> Tensor | None:
        return self.log == -math.inf if self._nowhere is None else self._nowhere()

    def times(self, log: Tensor | float, error: Tensor | float = 0.0) -> Measure:
        """The measure multiplied token by token."""
        return Measure(lambda: self.log + log, lambda: self.error + error)


class Operator(ABC):
    """A batch of row-stochastic N × N matrices, perhaps never materialised.

    ``A[..., i, j]`` is the probability of going from token i to token j. An operator is
    applied in the precision of the tensor that it is given: a float32 operator times a
    float64 vector is computed in float64. That is what certificates rest on.

    ``A @ x`` and ``A.T @ x`` take a vector a chain, (*batch, N), or columns, (*batch, N, c).

    A subclass supplies ``matmul``, ``rmatmul``, ``support``, ``source``, ``entry_error``, ``turn``, ``reshape``
    and ``index``, and whatever of the rest it can do faster.
    """

    shape: torch.Size  # (*batch, N, N)
    dtype: torch.dtype
    device: torch.device
    structure: Structure = "full"  # "lower": causal, A[i, j] = 0 for j > i; "upper": its reverse
    _path: Path | None = None  # what ``path`` was asked to be, or that of the parts

    @property
    def batch(self) -> torch.Size:
        """The leading dimensions, heads last."""
        return self.shape[:-2]

    @property
    def num_tokens(self) -> int:
        """N, the number of states."""
        return self.shape[-1]

    @property
    def path(self) -> Path:
        """How products are taken: see ``Path``; that of the device where none was asked for."""
        return self._path or path_for(self.device)

    @property
    def T(self) -> Transposed:  # noqa: N802  the name that torch and numpy give it
        """Aᵀ, to multiply with: ``A.T @ x``. Its rows do not sum to one, so that it is no chain."""
        return Transposed(self)

    @property
    @abstractmethod
    def source(self) -> str:
        """What the chain is made from, and so what a certificate is about: "stored weights" or "queries and keys"."""

    @abstractmethod
    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        """A proved bound of |log Â_ij − log A_ij|, (*batch,) in float64, on every step that is possible.

        A is the chain that was asked for, in exact arithmetic; Â is the one whose products are taken in ``dtype``
        (by default the operator's own). Zero for stored weights. Entries below the least normal number of
        ``dtype`` may be lost; ``row_error`` counts them. The rounding of sums over the tokens in a product
        with a vector is not in it, that of sums and products which make the entries is.
        """

    def row_error(self, dtype: torch.dtype | None = None) -> Tensor:
        """A proved bound η of max_i Σ_j |Â_ij − A_ij|, (*batch,) in float64; see ``entry_error``.

        Hence ‖(Â − A)ᵀx‖₁ ≤ η ‖x‖₁ and ‖(Â − A)x‖∞ ≤ η ‖x‖∞. At most 2, which holds of any two chains.
        """
        error = self.entry_error(dtype)
        lost = self.num_tokens * torch.finfo(dtype or self.dtype).tiny
        return torch.where(error > 0, torch.expm1(error) + lost, 0.0).clamp(max=2)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A x for vectors (*batch, N) or columns (*batch, N, c), in the dtype of x.

        Raises:
            ChainError: x of another shape, leading dimensions are never broadcast; or on another device.
        """
        return _applied(self.matmul, self, x)

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
    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        """The chain reversed with respect to a measure, B[j, i] = μ_i A[i, j] / (μA)_j, and the image μA.

        In logarithms, so that no column is too small. Rows of B are those of a chain where the image is not zero and
        are never gone to elsewhere.
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
        blocks = list(self.blocks(dtype, max(BUILD_BYTES, block_bytes(self.device))))
        if len(blocks) == 1:
            return self.rows(*blocks[0], dtype)
        out = torch.empty(self.shape, dtype=dtype or self.dtype, device=self.device)
        for start, stop in blocks:
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

    def blocks(self, dtype: torch.dtype | None = None, size_bytes: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges of rows whose blocks take about ``size_bytes``, or ``BLOCK_ROWS`` rows if that is more.

        Args:
            dtype: of the blocks; that of the operator where None.
            size_bytes: ``block_bytes`` of the device where None.
        """
        n = self.num_tokens
        row = max(1, math.prod(self.batch)) * n * (dtype or self.dtype).itemsize
        size = min(n, max(BLOCK_ROWS, (block_bytes(self.device) if size_bytes is None else size_bytes) // row))
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
        return _applied(self.T.rmatmul, self.T, x)


def _applied(product: Callable[[Tensor], Tensor], operator: Operator, x: Tensor) -> Tensor:
    """A product that takes columns, of columns or of vectors."""
    shape = operator.shape
    if x.device != operator.device:
        raise ChainError(
            f"x is on {str(x.device)!r}, expected {str(operator.device)!r}, where the chain is; move it with "
            ".to(chain.device)"
        )
    if x.shape == shape[:-1]:
        return product(x[..., None])[..., 0]
    if x.shape[:-1] == shape[:-1]:
        return product(x)
    raise ChainError(
        f"x has shape {tuple(x.shape)}, expected {tuple(shape[:-1])}, a vector a chain, or {(*shape[:-1], 'c')}, "
        "columns; expand it to the leading dimensions first"
    )


def block_bytes(device: torch.device) -> int:
    """How much one block of rows takes, about."""
    return BLOCK_BYTES if device.type == "cpu" else BLOCK_BYTES_ELSEWHERE


def everywhere(rows: int, columns: int, device: torch.device) -> Tensor:
    """All True, (rows, columns), in the memory of one element."""
    return _true(device).expand(rows, columns)


def is_everywhere(support: Tensor) -> bool:
    """Whether a support was made by ``everywhere``: known to be True without looking at it."""
    if support.stride()[-2:] != (0, 0):
        return False
    return support.data_ptr() == _true(support.device).data_ptr() or bool(support[..., 0, 0].all())


@cache
def _true(device: torch.device) -> Tensor:
    """One True (1, 1) a device, whose place in memory says what it holds without a wait for the device."""
    with torch.inference_mode(False):
        return torch.ones(1, 1, dtype=torch.bool, device=device)
