"""One of two: a step with some probability, something else otherwise; the same for all tokens or one for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .rounding import few, narrowing


class Choice:
    """A step with one probability, something else with the other; the same for all tokens or one for each.

    Args:
        step: a number, or (*batch, N) in float64.
        other: 1 − step; given where it is known better than by that difference.
        error: relative error of both, (*batch,), where they were computed.
        logs: logarithms of both, (2, *batch, N), where they are known: of what is too small for a number, too.
    """

    def __init__(
        self,
        step: float | Tensor,
        other: float | Tensor | None = None,
        error: Tensor | None = None,
        logs: Tensor | None = None,
    ) -> None:
        self.step, self.other, self.error = step, 1 - step if other is None else other, error
        self._logs = logs

    @classmethod
    def between(cls, step: Tensor, other: Tensor, error: Tensor) -> tuple[Choice, Tensor]:
        """Of two measures by their logarithms, (*batch, N), off by ``error``; and the logarithm of their sum."""
        chosen, left = shares(torch.stack([step, other]), 0)
        whole = torch.logaddexp(step, other)
        logs = torch.stack([step, other]) - whole.masked_fill(whole == -math.inf, 0.0)
        return cls(chosen, left, 2 * error + few(2, torch.cat([step, other], -1)), logs), whole

    def at(self, dtype: torch.dtype, tokens: slice = slice(None)) -> tuple[float | Tensor, float | Tensor]:
        """Both, as factors of (*batch, n, c) for some of the tokens."""
        if isinstance(self.step, Tensor) and isinstance(self.other, Tensor):
            return self.step[..., tokens, None].to(dtype), self.other[..., tokens, None].to(dtype)
        return self.step, self.other

    def vectors(self, dtype: torch.dtype) -> tuple[float | Tensor, float | Tensor]:
        """Both, as factors of (*batch, N)."""
        both = self.at(dtype)
        return tuple(part[..., 0] if isinstance(part, Tensor) else part for part in both)  # type: ignore[return-value]

    def logs(self) -> tuple[float | Tensor, float | Tensor]:
        """Their logarithms, numbers or (*batch, N)."""
        if self._logs is not None:
            return self._logs[0], self._logs[1]
        return _log(self.step), _log(self.other)

    def possible(self) -> tuple[bool | Tensor, bool | Tensor]:
        """Which of both may happen, however rarely, as factors of (*batch, N, N)."""
        if self._logs is not None:
            step, other = self._logs[..., None]
            return step > -math.inf, other > -math.inf
        step, other = self.at(torch.float64)
        return step > 0, other > 0

    def widened(self, error: Tensor, dtype: torch.dtype) -> Tensor:
        """The error of a chain of which this is part."""
        error = error + narrowing(torch.float64, dtype)
        return error if self.error is None else error + self.error

    def reshape(self, *batch: int) -> Choice:
        """The same with other leading dimensions."""
        return self._part(lambda t, rest: t.reshape((*batch, *rest)))

    def index(self, *index: Any) -> Choice:
        """Those that ``index`` selects from the batch."""
        return self._part(lambda t, rest: t[index])

    def _part(self, part: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Choice:
        if not isinstance(self.step, Tensor) or not isinstance(self.other, Tensor):
            return self
        error = None if self.error is None else part(self.error, ())
        width = self.step.shape[-1:]
        logs = None if self._logs is None else torch.stack([part(side, width) for side in self._logs])
        return Choice(part(self.step, width), part(self.other, width), error, logs)


def _log(x: float | Tensor) -> float | Tensor:
    if isinstance(x, Tensor):
        return x.log()
    return math.log(x) if x > 0 else -math.inf


def shares(logs: Tensor, dim: int) -> Tensor:
    """exp(logs) divided by the sums over a dimension, which are then one to rounding; zeros where all are −∞."""
    nothing = logs.amax(dim, keepdim=True) == -math.inf
    return logs.masked_fill(nothing, 0.0).softmax(dim).masked_fill(nothing, 0.0)
