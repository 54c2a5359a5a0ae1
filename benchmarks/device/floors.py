"""Times that no program can fall below on this device: operations at the matrix rate, bytes at the copy rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Floors:
    """Floors of a device, from its measured rates.

    Attributes:
        copy: bytes a second.
        matrix: dtype's name → floating-point operations a second of a large matrix product.
    """

    copy: float
    matrix: dict[str, float]

    def rate(self, dtype: torch.dtype) -> float:
        """Of matrix products in ``dtype``; that of float32 where it was not measured."""
        return self.matrix.get(str(dtype).removeprefix("torch."), self.matrix["float32"])

    def attention(self, heads: int, tokens: int, width: int, dtype: torch.dtype) -> float:
        """A forward attention with values as wide as the queries: two products."""
        return 4 * heads * tokens**2 * width / self.rate(dtype)

    def recomputed(self, heads: int, tokens: int, width: int, dtype: torch.dtype) -> float:
        """A x of one column from queries and keys: the logits are products, the rest is little."""
        return 2 * heads * tokens**2 * width / self.rate(dtype)

    def stored(self, heads: int, tokens: int, size: int = 2) -> float:
        """A x of one column from a stored A, ``size`` bytes an entry, which is read once."""
        return heads * tokens**2 * size / self.copy

    def apply(self, heads: int, tokens: int, width: int, dtype: torch.dtype) -> float:
        """A x of one column, the cheaper way."""
        return min(self.recomputed(heads, tokens, width, dtype), self.stored(heads, tokens))

    def proof(self, heads: int, tokens: int, width: int) -> float:
        """One step in float64 from queries and keys: their logits."""
        return 2 * heads * tokens**2 * width / self.rate(torch.float64)

    def answer(self, heads: int, tokens: int, width: int, dtype: torch.dtype, applies: int) -> float:
        """So many applications and one proof."""
        return applies * self.apply(heads, tokens, width, dtype) + self.proof(heads, tokens, width)
