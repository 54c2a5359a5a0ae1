"""What chains of queries and keys have in common, wherever these are: biases of keys, and what hides them."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from . import rounding
from .base import Operator, Structure
from .factors import Factors


class Keyed(Operator):
    """softmax(scale · q kᵀ + bias + mask); the support is a triangle or what a mask says, less hidden keys.

    Attributes:
        q, k: queries and keys, (…, d).
        scale: factor of the logits.
        is_causal: token i sees tokens 0 … i only, or i … N − 1 if ``structure`` is "upper".
    """

    q: Tensor
    k: Tensor
    scale: float
    is_causal: bool
    _bias: Factors | None
    _empties: tuple[Tensor | None] | None  # _empty(), once it is known

    @property
    def source(self) -> str:
        return rounding.QUERIES

    @property
    def bias(self) -> Tensor | None:
        """What is added to the logits of each key, (*batch, N) in float64."""
        return self._bias_at(torch.float64)

    @abstractmethod
    def log_normalisers(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """r_i = log Σ_j exp(s_ij), (*batch, N), ∞ for a token that may attend to none; once for each precision."""

    def hidden_keys(self) -> Tensor | None:
        """Keys that nobody may attend to, bool (N,) or (*batch, N); None where there is none."""
        return None if self._bias is None else self._bias.hidden()

    def _empty(self) -> Tensor | None:
        """Queries that may attend to no key, bool (*batch or less, N), from masks alone; None where there is none."""
        if self._empties is None:
            seen = self._seeing()
            self._empties = (None if seen is None or bool(seen.all()) else ~seen,)
        return self._empties[0]

    def _seeing(self) -> Tensor | None:
        """Queries that may attend to some key; None where it is known that all may. Without a mask."""
        hidden = self.hidden_keys()
        if hidden is None:
            return None
        if self.is_causal:
            return largest_seen((~hidden).byte(), self.structure) > 0
        return (~hidden).any(-1, keepdim=True).expand(hidden.shape)

    def _bias_at(self, dtype: torch.dtype) -> Tensor | None:
        return None if self._bias is None else self._bias.at(dtype)

    def _bias_error(self, dtype: torch.dtype) -> Tensor | float:
        return 0.0 if self._bias is None else self._bias.error(dtype)

    def _exponential_error(self, size: Tensor, dtype: torch.dtype) -> Tensor:
        """What rounding does to the logarithm of exp(s_ij − shift_i), (*batch,), of logits as large as ``size``."""
        error = rounding.exponentials(size, self.q.shape[-1], dtype)
        return error + 2 * rounding.narrowing(self.dtype, dtype) * size


def largest_seen(bias: Tensor, structure: Structure) -> Tensor:
    """The largest of the biases that each row sees, (*batch, N)."""
    if structure == "upper":
        return largest_seen(bias.flip(-1), "lower").flip(-1)
    return bias.cummax(-1).values if structure == "lower" else bias.amax(-1, keepdim=True).expand(bias.shape)
