"""Einstein sums that are a product of queries and keys."""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor


@dataclass(frozen=True)
class EinsumProduct:
    """How to read q (…, N, d) and k (…, M, d) off the operands of an equation."""

    queries_first: bool
    rows: tuple[str, ...]  # dimensions of the operand that holds the queries
    columns: tuple[str, ...]
    lead: tuple[str, ...]
    row: str
    column: str
    summed: tuple[str, ...]

    def operands(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """q and k, as views where possible."""
        q, k = (a, b) if self.queries_first else (b, a)
        return self._arranged(q, self.rows, self.row), self._arranged(k, self.columns, self.column)

    def _arranged(self, tensor: Tensor, letters: tuple[str, ...], last: str) -> Tensor:
        order = [*(c for c in self.lead if c in letters), last, *self.summed]
        tensor = tensor.permute([letters.index(c) for c in order]).flatten(-len(self.summed))
        for place, letter in enumerate(self.lead):
            if letter not in letters:
                tensor = tensor.unsqueeze(place)
        return tensor


@lru_cache(maxsize=256)
def product(equation: str, a_ndim: int, b_ndim: int) -> EinsumProduct | None:
    """The reading of an equation of two operands, such as "bqhd,bkhd->bhqk"; None for another sum.

    Queries and keys stand in the last two dimensions of the result, and nothing is summed over
    but dimensions that both share.
    """
    sides = equation.replace(" ", "").split("->")
    inputs = sides[0].split(",")
    if len(sides) != 2 or len(inputs) != 2:
        return None
    unused = [c for c in string.ascii_uppercase if c not in equation]
    ranks = [ndim - len(letters.replace("...", "")) for letters, ndim in zip(inputs, (a_ndim, b_ndim), strict=True)]
    if min(ranks) < 0 or max(ranks) > len(unused):
        return None
    dots = unused[: max(ranks)]
    a, b = (
        tuple(letters.replace("...", "".join(dots[len(dots) - rank :])))
        for letters, rank in zip(inputs, ranks, strict=True)
    )
    out = tuple(sides[1].replace("...", "".join(dots)))
    if len(out) < 2 or any(len(set(t)) != len(t) for t in (a, b, out)):
        return None
    *lead, row, column = out
    summed = tuple(c for c in a if c in b and c not in out)
    once = [c for c in (*a, *b) if c not in out and c not in summed]
    for first, rows, columns in ((True, a, b), (False, b, a)):
        apart = row in rows and row not in columns and column in columns and column not in rows
        if apart and summed and not once:
            return EinsumProduct(first, rows, columns, tuple(lead), row, column, summed)
    return None
