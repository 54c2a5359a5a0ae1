"""Pooled chains: one chain from the heads of many attention calls, whose weights are never all made at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ChainError
from .base import Measure, Operator, everywhere, is_everywhere
from .choice import shares
from .rounding import few, narrowing, sources

Part = Callable[[], Operator]

POOL_BYTES = 2 * 2**20
"""Of one head's block of rows: large enough for an efficient product, small beside queries and keys."""


class Pooled(Operator):
    """Σ_p Σ_h w_ph A_ph over several calls p and their heads h: a call and a head drawn at every step.

    Each part is made when it is needed and let go, so that records kept in half precision are widened one at a time.
    Products are taken head by head in blocks of rows, one product of queries and keys each: with few columns that is
    half of what fused attention does, whose values are as wide as its keys.

    Args:
        parts: what make the operators (h, N, N), of one N.
        weights: of each part (h,) in float64, or (h, N) where the draw depends on the token that the step begins at;
            non-negative, summing to one over all parts and heads.
        weight_error: relative error of the weights, a number in float64, where they were computed.
        logs: logarithms of the weights, where they are known: of what is too small for a number, too.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        weights: Sequence[Tensor],
        weight_error: Tensor | None = None,
        logs: Sequence[Tensor] | None = None,
        batch: tuple[int, ...] = (),
    ) -> None:
        if not parts or len(parts) != len(weights):
            raise ChainError(f"{len(parts)} parts and {len(weights)} weights, expected as many, one at least")
        self.parts, self.weights, self.weight_error = tuple(parts), tuple(weights), weight_error
        self.logs = tuple(w.double().log() for w in self.weights) if logs is None else tuple(logs)
        first = self.parts[0]()
        self.shape = torch.Size((*batch, *first.shape[-2:]))
        self.dtype, self.device, self._source = first.dtype, first.device, first.source
        self._path = first.path
        self._errors: dict[torch.dtype, Tensor] = {}  # entry_error(), computed once

    def matmul(self, x: Tensor) -> Tensor:
        given = x.reshape(x.shape[-2:])
        y = torch.zeros_like(given)
        for head, weight in self._heads():
            for start, stop in head.blocks(x.dtype, POOL_BYTES):
                y[start:stop] += _at(weight, start, stop, x.dtype) * (head.rows(start, stop, x.dtype) @ given)
        return y.reshape(x.shape)

    def rmatmul(self, x: Tensor) -> Tensor:
        given = x.reshape(x.shape[-2:])
        y = given.new_zeros(given.shape[-1], given.shape[-2])
        for head, weight in self._heads():
            for start, stop in head.blocks(x.dtype, POOL_BYTES):
                part = _at(weight, start, stop, x.dtype) * given[start:stop]
                y += part.mT @ head.rows(start, stop, x.dtype)
        return y.mT.reshape(x.shape)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        out = torch.zeros(stop - start, self.num_tokens, dtype=dtype, device=self.device)
        for head, weight in self._heads():
            out += _at(weight, start, stop, dtype) * head.rows(start, stop, dtype)
        return out.reshape(*self.batch, *out.shape)

    def support(self) -> Tensor:
        n = self.num_tokens
        possible: Tensor | None = None
        for make, log in zip(self.parts, self.logs, strict=True):
            heads = make().support()
            if is_everywhere(heads):
                return everywhere(n, n, self.device)
            drawn = (log if log.ndim == 2 else log[:, None]) > -math.inf
            part = (heads & drawn[..., None]).any(0)
            possible = part if possible is None else possible | part
        assert possible is not None
        return possible

    @property
    def source(self) -> str:
        return sources(self._source)

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        if dtype not in self._errors:
            worst = torch.zeros((), dtype=torch.float64, device=self.device)
            for head, _ in self._heads():  # one at a time: bounds widen queries and keys to double
                worst = torch.maximum(worst, head.entry_error(dtype))
            self._errors[dtype] = worst + narrowing(torch.float64, dtype)
        error = self._errors[dtype] if self.weight_error is None else self._errors[dtype] + self.weight_error
        return error.expand(self.batch)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        given, error = measure.log.reshape(self.num_tokens), measure.error.reshape(())
        error = error if self.weight_error is None else error + self.weight_error
        turned: list[Operator] = []
        images: list[Measure] = []
        for make, log in zip(self.parts, self.logs, strict=True):
            drawn = log if log.ndim == 2 else log[:, None]
            back, image = make().turn(Measure(given + drawn, error.expand(len(log))))
            turned.append(back)
            images.append(image)
        every = torch.cat([image.log for image in images])
        whole = every.logsumexp(0)
        off = torch.stack([image.error.amax() for image in images]).amax() + few(len(every), every.flatten())
        sizes = [len(log) for log in self.logs]
        logs = (every - whole.masked_fill(whole == -math.inf, 0.0)).split(sizes)
        weights = shares(every, 0).split(sizes)
        parts = [_held(back) for back in turned]  # a turned part computes its factors once, and keeps them
        return (
            Pooled(parts, weights, 2 * off, logs, tuple(self.batch)),
            Measure(whole.expand(self.shape[:-1]), off.expand(self.batch)),
        )

    def reshape(self, *batch: int) -> Pooled:
        if math.prod(batch) != 1:
            raise ChainError(f"one chain cannot have leading dimensions {batch}, expected ones alone")
        return self._with(tuple(batch))

    def index(self, *index: Any) -> Pooled:
        left = torch.zeros(self.batch)[index].shape
        if math.prod(left) != 1:
            raise ChainError(f"index {index} of one chain selects {math.prod(left)}, expected one")
        return self._with(tuple(left))

    def _with(self, batch: tuple[int, ...]) -> Pooled:
        other = Pooled.__new__(Pooled)
        other.__dict__ = {**self.__dict__, "shape": torch.Size((*batch, *self.shape[-2:]))}
        return other

    def _heads(self) -> Iterator[tuple[Operator, Tensor]]:
        """Heads (N, N) that are ever drawn, one at a time, each with its weight."""
        for make, weights, logs in zip(self.parts, self.weights, self.logs, strict=True):
            part = make()
            for place in range(len(weights)):
                if bool(logs[place].amax() > -math.inf):
                    yield part.index(place), weights[place]


def _at(weight: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """The weight of a head for some rows, (rows, 1), or a number."""
    return weight.to(dtype) if weight.ndim == 0 else weight[start:stop, None].to(dtype)


def _held(operator: Operator) -> Part:
    return lambda: operator
