"""Bipartite chains of cross-attention: image tokens that step over to text tokens, for good or there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Measure, Operator
from .choice import Choice, shares
from .rounding import WEIGHTS, few, stored


class Bipartite(Operator):
    """[[(1 − p) A, p C], [0, I]]: N tokens that walk by A, M tokens that absorb.

    At every step the walk crosses over with probability p. C is no square matrix and no chain by
    itself; this is one, of N + M tokens, the absorbing ones last.

    Args:
        inner: A, operator of shape (*batch, N, N).
        cross: C, (*batch, N, M).
        step: p, 0 … 1; a ``Choice`` where it depends on the token.
    """

    def __init__(self, inner: Operator, cross: Kernel, step: float | Choice) -> None:
        self.inner, self.cross = inner, cross
        self.choice = step if isinstance(step, Choice) else Choice(step)
        self.walking, self.absorbing = cross.shape[-2:]
        size = self.walking + self.absorbing
        self.shape = torch.Size((*inner.batch, size, size))
        self.dtype, self.device = torch.promote_types(inner.dtype, cross.dtype), inner.device
        self._path = inner.path

    def matmul(self, x: Tensor) -> Tensor:
        here, there = x.split([self.walking, self.absorbing], -2)
        over, walk = self.choice.at(x.dtype)
        return torch.cat([walk * self.inner.matmul(here) + over * self.cross.matmul(there), there], -2)

    def rmatmul(self, x: Tensor) -> Tensor:
        here, there = x.split([self.walking, self.absorbing], -2)
        over, walk = self.choice.at(x.dtype)
        return torch.cat([self.inner.rmatmul(walk * here), self.cross.rmatmul(over * here) + there], -2)

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        walking = self.choice.vectors(dtype or self.dtype)[1] * self.inner.diagonal(dtype or self.dtype)
        return torch.cat([walking, walking.new_ones(*self.batch, self.absorbing)], -1)

    def support(self) -> Tensor:
        square, over = self.inner.support(), self.cross.support()
        leading = np.broadcast_shapes(square.shape[:-2], over.shape[:-2])
        possible = torch.zeros(*leading, *self.shape[-2:], dtype=torch.bool, device=self.device)
        n = self.walking
        crossing, walking = self.choice.possible()
        possible[..., :n, :n] = square & walking
        possible[..., :n, n:] = over & crossing
        possible[..., n:, n:] = torch.eye(self.absorbing, dtype=torch.bool, device=self.device)
        return possible

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        parts = torch.maximum(self.inner.entry_error(dtype), self.cross.entry_error(dtype))
        return self.choice.widened(parts, dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        here, there = measure.log.split([self.walking, self.absorbing], -1)
        over, walk = self.choice.logs()
        error = measure.error if self.choice.error is None else measure.error + self.choice.error
        inner, walked = self.inner.turn(Measure(here + walk, error))
        cross, crossed = self.cross.turn(Measure(here + over, error))
        choice, arrived = Choice.between(crossed.log, there, torch.maximum(crossed.error, error))
        image = torch.cat([walked.log, arrived], -1)
        error = torch.maximum(walked.error, crossed.error) + few(2, image)
        return ReversedBipartite(inner, cross, choice), Measure(image, error)

    def reshape(self, *batch: int) -> Bipartite:
        return Bipartite(self.inner.reshape(*batch), self.cross.reshape(*batch), self.choice.reshape(*batch))

    def index(self, *index: Any) -> Bipartite:
        return Bipartite(self.inner.index(*index), self.cross.index(*index), self.choice.index(*index))


class ReversedBipartite(Operator):
    """[[A, 0], [p C, (1 − p) I]]: a bipartite chain turned round; the M tokens are where its walk begins.

    Args:
        inner: A, operator of shape (*batch, N, N).
        cross: C, (*batch, M, N).
        choice: p, of every one of the M tokens.
    """

    def __init__(self, inner: Operator, cross: Kernel, choice: Choice) -> None:
        self.inner, self.cross, self.choice = inner, cross, choice
        self.begins, self.walking = cross.shape[-2:]
        size = self.walking + self.begins
        self.shape = torch.Size((*inner.batch, size, size))
        self.dtype, self.device = torch.promote_types(inner.dtype, cross.dtype), inner.device
        self._path = inner.path

    def matmul(self, x: Tensor) -> Tensor:
        here, there = x.split([self.walking, self.begins], -2)
        over, stay = self.choice.at(x.dtype)
        return torch.cat([self.inner.matmul(here), over * self.cross.matmul(here) + stay * there], -2)

    def rmatmul(self, x: Tensor) -> Tensor:
        here, there = x.split([self.walking, self.begins], -2)
        over, stay = self.choice.at(x.dtype)
        return torch.cat([self.inner.rmatmul(here) + self.cross.rmatmul(over * there), stay * there], -2)

    def support(self) -> Tensor:
        square, over = self.inner.support(), self.cross.support()
        crossing, staying = self.choice.possible()
        possible = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        n = self.walking
        possible[..., :n, :n] = square
        possible[..., n:, :n] = over & crossing
        possible[..., n:, n:] = torch.eye(self.begins, dtype=torch.bool, device=self.device) & staying
        return possible

    @property
    def source(self) -> str:
        return self.inner.source

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        parts = torch.maximum(self.inner.entry_error(dtype), self.cross.entry_error(dtype))
        return self.choice.widened(parts, dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        here, there = measure.log.split([self.walking, self.begins], -1)
        over, stay = self.choice.logs()
        error = measure.error if self.choice.error is None else measure.error + self.choice.error
        inner, walked = self.inner.turn(Measure(here, measure.error))
        cross, crossed = self.cross.turn(Measure(there + over, error))
        choice, arrived = Choice.between(crossed.log, walked.log, torch.maximum(crossed.error, walked.error))
        image = torch.cat([arrived, there + stay], -1)
        error = torch.maximum(walked.error, crossed.error) + few(2, image)
        return Bipartite(inner, cross, choice), Measure(image, error)

    def reshape(self, *batch: int) -> ReversedBipartite:
        return ReversedBipartite(self.inner.reshape(*batch), self.cross.reshape(*batch), self.choice.reshape(*batch))

    def index(self, *index: Any) -> ReversedBipartite:
        return ReversedBipartite(self.inner.index(*index), self.cross.index(*index), self.choice.index(*index))


class Kernel:
    """Cross-attention: C[..., i, j] is the probability of going from token i of one set to token j of another.

    Args:
        weights: (*batch, N, M), rows summing to one up to rounding. Asked for in another precision, rows
            are divided by their exact sums, so that no mass is lost.
        dtype: the precision to apply it in where none is asked for; that of the weights by default.
        error: relative error of the weights, (*batch,), where they were computed.
    """

    def __init__(self, weights: Tensor, dtype: torch.dtype | None = None, error: Tensor | None = None) -> None:
        self.weights, self.error = weights, error
        self.shape, self.dtype = weights.shape, dtype or weights.dtype

    def matmul(self, x: Tensor) -> Tensor:
        """C x for x (*batch, M, c), in the dtype of x: (*batch, N, c)."""
        return self.dense(x.dtype) @ x

    def rmatmul(self, x: Tensor) -> Tensor:
        """Cᵀ x for x (*batch, N, c), in the dtype of x: (*batch, M, c)."""
        return (x.mT @ self.dense(x.dtype)).mT

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights, (*batch, N, M)."""
        dtype = dtype or self.dtype
        if dtype == self.weights.dtype:
            return self.weights
        other = self.weights.to(dtype)
        sums = other.sum(-1, keepdim=True)
        return other / torch.where(sums > 0, sums, 1.0)

    def support(self) -> Tensor:
        """Where a step is possible: bool (*batch, N, M)."""
        return self.weights > 0

    def entry_error(self, dtype: torch.dtype) -> Tensor:
        """As of an operator, (*batch,)."""
        error = stored(self.weights, dtype)
        return error if self.error is None else error + self.error

    def turn(self, measure: Measure) -> tuple[Kernel, Measure]:
        """As ``Operator.turn``: (*batch, M, N), and the measure over M tokens."""
        weights = self.weights.double()
        sums = weights.sum(-1, keepdim=True)
        # a row of zeros is that of a token that the walk never is on, where a chain was turned round before
        logs = (measure.log[..., None] - torch.where(sums > 0, sums, 1.0).log() + weights.log()).mT
        image = logs.logsumexp(-1)
        error = measure.error + few(sum(self.shape[-2:]), torch.cat([measure.log, logs.flatten(-2)], -1))
        error = error if self.error is None else error + self.error
        return Kernel(shares(logs, -1), self.dtype, 2 * error), Measure(image, error)

    def reshape(self, *batch: int) -> Kernel:
        """The same weights with other leading dimensions."""
        error = None if self.error is None else self.error.reshape(batch)
        return Kernel(self.weights.reshape(*batch, *self.shape[-2:]), self.dtype, error)

    def index(self, *index: Any) -> Kernel:
        """Those that ``index`` selects from the batch."""
        return Kernel(self.weights[index], self.dtype, None if self.error is None else self.error[index])


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

    @property
    def source(self) -> str:
        return WEIGHTS

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return self.out.entry_error(dtype) + self.back.entry_error(dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        out, over = self.out.turn(measure)
        back, image = self.back.turn(over)
        return Relay(back, out), image

    def reshape(self, *batch: int) -> Relay:
        return Relay(self.out.reshape(*batch), self.back.reshape(*batch))

    def index(self, *index: Any) -> Relay:
        return Relay(self.out.index(*index), self.back.index(*index))
