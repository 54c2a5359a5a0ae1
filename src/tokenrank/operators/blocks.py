"""Block-diagonal chains: windows that share no token, as one chain on all tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ChainError
from .base import Measure, Operator, everywhere, is_everywhere


class Blocks(Operator):
    """A block-diagonal chain: every token walks inside its own window.

    With token index[w, i] at place i of window w, A[index[w, i], index[w, j]] is ``inner``'s entry
    (i, j) of window w, and all other entries are zero. N × N is never created outside ``to_dense``
    and ``support``: an apply costs W applies to n tokens.

    Args:
        inner: operator of shape (*batch, W, H, n, n): windows, then heads.
        index: (W, n) int64, a permutation of 0 … N−1 with N = W · n.
        leading: other leading dimensions in place of (*batch, H); only ``reshape`` and ``index`` need it.

    Raises:
        ChainError: ``inner`` without windows and heads, an index of another shape, or one that does
            not name every token once.
    """

    def __init__(self, inner: Operator, index: Tensor, leading: Sequence[int] | None = None) -> None:
        if leading is None:
            _check(inner, index)
            leading = (*inner.batch[:-2], inner.batch[-1])
        self.inner, self.tokens = inner, index.to(inner.device)
        self.shape = torch.Size((*leading, index.numel(), index.numel()))
        self.dtype, self.device, self._path = inner.dtype, inner.device, inner.path
        # places in the order of the sequence keep the triangle
        self.structure = inner.structure if bool((index.diff(dim=-1) > 0).all()) else "full"
        self._place = torch.empty_like(self.tokens.flatten())
        self._place[self.tokens.flatten()] = torch.arange(index.numel(), device=self.device)

    def matmul(self, x: Tensor) -> Tensor:
        return self._gathered(self.inner.matmul(self._scattered(x)))

    def rmatmul(self, x: Tensor) -> Tensor:
        return self._gathered(self.inner.rmatmul(self._scattered(x)))

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._lines(start, stop, dtype, False)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._lines(start, stop, dtype, True).mT

    def to_dense(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._assembled(self.inner.to_dense(dtype)).reshape(self.shape)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._gathered_vectors(self.inner.diagonal(dtype))

    def column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._gathered_vectors(self.inner.column_sums(dtype))

    def row_entropies(self, dtype: torch.dtype | None = None) -> Tensor:
        return self._gathered_vectors(self.inner.row_entropies(dtype))

    def support(self) -> Tensor:
        inner = self.inner.support()
        windows, n = self.tokens.shape
        if is_everywhere(inner) and windows == 1:
            return everywhere(n, n, self.device)
        # one dimension of windows and one of heads, of length one where they are all alike
        inner = inner.reshape((1,) * max(0, 4 - inner.ndim) + inner.shape)
        possible = self._assembled(inner.expand(*inner.shape[:-4], windows, *inner.shape[-3:]))
        if math.prod(possible.shape[:-2]) == 1:
            return possible.reshape(self.shape[-2:])
        return possible.expand(*self._outer, *self.shape[-2:]).reshape(self.shape)

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.inner.entry_error(dtype).amax(-2).reshape(self.batch)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        log = self._scattered(measure.log[..., None])[..., 0]
        error = measure.error.reshape(self._outer)[..., None, :].expand(self.inner.batch)
        back, image = self.inner.turn(Measure(log, error))

        def nowhere() -> Tensor | None:
            none = image.nowhere
            return None if none is None else self._gathered_vectors(none.expand(self.inner.shape[:-1]))

        gathered = Measure(lambda: self._gathered_vectors(image.log), image.error.amax(-2).reshape(self.batch), nowhere)
        return Blocks(back, self.tokens, self.batch), gathered

    def reshape(self, *batch: int) -> Blocks:
        return Blocks(self.inner, self.tokens, batch)

    def index(self, *index: Any) -> Blocks:
        chains = torch.arange(math.prod(self.batch), device=self.device).reshape(self.batch)
        chosen = chains[index]
        if torch.equal(chosen.flatten(), chains.flatten()):
            return Blocks(self.inner, self.tokens, chosen.shape)
        windows, heads = self.inner.batch[-2:]
        flat = self.inner.reshape(math.prod(self.inner.batch[:-2]), windows, heads)
        picture, head = (chosen.reshape(-1, 1) // heads, chosen.reshape(-1, 1) % heads)
        inner = flat.index(picture, torch.arange(windows, device=self.device), head)
        return Blocks(inner.reshape(chosen.numel(), windows, 1), self.tokens, chosen.shape)

    @property
    def _outer(self) -> tuple[int, ...]:
        """(*batch, H) of ``inner``, which ``reshape`` presents in another form."""
        return (*self.inner.batch[:-2], self.inner.batch[-1])

    def _scattered(self, x: Tensor) -> Tensor:
        """(…, N, c) in the order of the sequence to (*batch, W, H, n, c)."""
        x = x.index_select(-2, self.tokens.flatten())
        return x.reshape(*self._outer, *self.tokens.shape, x.shape[-1]).transpose(-4, -3)

    def _gathered(self, y: Tensor) -> Tensor:
        """(*batch, W, H, n, c) to (…, N, c) in the order of the sequence."""
        y = y.transpose(-4, -3).reshape(*self.batch, self.num_tokens, y.shape[-1])
        return y.index_select(-2, self._place)

    def _gathered_vectors(self, y: Tensor) -> Tensor:
        """(*batch, W, H, n) to (…, N) in the order of the sequence."""
        return y.transpose(-3, -2).reshape(self.shape[:-1]).index_select(-1, self._place)

    def _lines(self, start: int, stop: int, dtype: torch.dtype | None, columns: bool) -> Tensor:
        """Rows, or columns lying down, (…, stop − start, N); only the windows that hold these tokens are built."""
        places = self._place[start:stop]
        held, nth = (places // self.tokens.shape[-1]).unique(return_inverse=True)
        every = (slice(None),) * (len(self.inner.batch) - 2)
        weights = self.inner.index(*every, held).to_dense(dtype).transpose(-4, -3)
        lines = (weights.mT if columns else weights)[..., nth, places % self.tokens.shape[-1], :]
        out = lines.new_zeros(*lines.shape[:-1], self.num_tokens)
        out.scatter_(-1, self.tokens[held][nth].expand(lines.shape), lines)
        return out.reshape(*self.batch, *out.shape[-2:])

    def _assembled(self, blocks: Tensor) -> Tensor:
        """(…, W, H, n, n) to (…, H, N, N), zero (False) between windows."""
        blocks = blocks.transpose(-4, -3)
        out = blocks.new_zeros(*blocks.shape[:-3], self.num_tokens, self.num_tokens)
        out[..., self.tokens[:, :, None], self.tokens[:, None, :]] = blocks
        return out


def _check(inner: Operator, index: Tensor) -> None:
    if len(inner.batch) < 2:
        raise ChainError(
            f"windows have shape {tuple(inner.shape)}, expected (*batch, W, H, n, n); put a dimension of length one "
            "where there are no heads"
        )
    expected = (inner.batch[-2], inner.num_tokens)
    if tuple(index.shape) != expected:
        raise ChainError(f"index has shape {tuple(index.shape)}, expected (W, n) = {expected}: one token a place")
    if index.dtype != torch.int64:
        raise ChainError(f"index is {index.dtype}, expected torch.int64; convert it with .long()")
    if not torch.equal(index.flatten().sort().values, torch.arange(index.numel(), device=index.device)):
        raise ChainError(
            f"index does not name each of 0 … {index.numel() - 1} once, expected a permutation of the tokens: "
            "every token stands in one window"
        )
