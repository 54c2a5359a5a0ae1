"""Attention of some queries to some keys: parts of a softmax that are merged by log-sum-exp, and plain sums.

Tokens are known by their places in the sequence, so that a triangle means the same whichever ranks hold them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import base
from ..base import Structure
from ..logits import masked


@dataclass(frozen=True)
class Pair:
    """Queries and keys, and what is added to their logits.

    Args:
        q: (h, n, d) in the precision of the product.
        k: (h, m, d).
        scale: factor of the products.
        by_query: added to the logits of each query, (h, n), or None.
        by_key: added to the logits of each key, (h, m), or None; −∞ hides one.
        mask: (h or 1, n, m), bool (True may attend) or added, or None.
        triangle: "lower" where a query sees no later token, "upper" where it sees no earlier one.
        at: the tokens that the queries are of, increasing, int64 (n,) on the host.
        to: those that the keys are of, (m,).
    """

    q: Tensor
    k: Tensor
    scale: float
    by_query: Tensor | None
    by_key: Tensor | None
    mask: Tensor | None
    triangle: Structure
    at: Tensor
    to: Tensor

    def blocks(self) -> Iterator[tuple[slice, slice, slice, Tensor]]:
        """Heads, queries and the keys that these may see, with their logits, a block after the other."""
        for queries in _pieces(len(self.at), self._rows()):
            keys = self._seen(queries)
            if keys.start == keys.stop:
                continue
            row = self.q.element_size() * len(self.to)
            heads = max(1, base.block_bytes(self.q.device) // ((queries.stop - queries.start) * row))
            for some in _pieces(len(self.q), heads):
                yield some, queries, keys, self._logits(some, queries, keys)

    def dense(self) -> Tensor:
        """All logits, (h, n, m); −∞ where a triangle or a mask hides."""
        logits = self.q.new_full((*self.q.shape[:2], len(self.to)), -math.inf)
        for some, queries, keys, block in self.blocks():
            logits[some, queries, keys] = block
        return logits

    def _rows(self) -> int:
        """Queries of a block of one head."""
        row = self.q.element_size() * max(1, len(self.to))
        return max(base.BLOCK_ROWS, base.block_bytes(self.q.device) // row)

    def _seen(self, queries: slice) -> slice:
        """The keys that some of the queries may see: the first ones, or the last ones."""
        if self.triangle == "full":
            return slice(0, len(self.to))
        if self.triangle == "lower":
            return slice(0, int(torch.searchsorted(self.to, self.at[queries.stop - 1], right=True)))
        return slice(int(torch.searchsorted(self.to, self.at[queries.start])), len(self.to))

    def _logits(self, some: slice, queries: slice, keys: slice) -> Tensor:
        logits = (self.q[some, queries] @ self.k[some, keys].mT).mul_(self.scale)
        if self.by_query is not None:
            logits.add_(self.by_query[some, queries, None])
        if self.by_key is not None:
            logits.add_(self.by_key[some, None, keys])
        if self.mask is not None:
            heads = some if len(self.mask) > 1 else slice(0, 1)
            mask = self.mask[heads, queries, keys]
            logits = masked(logits, mask if mask.dtype == torch.bool else mask.to(logits.dtype))
        if self.triangle != "full":
            border = self._border(queries, keys)
            at, to = self.at[queries, None].to(logits.device), self.to[border].to(logits.device)
            place = slice(border.start - keys.start, border.stop - keys.start)
            logits[..., place].masked_fill_(to > at if self.triangle == "lower" else to < at, -math.inf)
        return logits

    def _border(self, queries: slice, keys: slice) -> slice:
        """Of the keys that some of the queries may see, those that not all of them may."""
        if self.triangle == "lower":
            return slice(int(torch.searchsorted(self.to, self.at[queries.start], right=True)), keys.stop)
        return slice(keys.start, int(torch.searchsorted(self.to, self.at[queries.stop - 1])))


@dataclass(frozen=True)
class Part:
    """A softmax over some of the keys, not yet divided: Σ_j exp(s_ij − top_i) x_j and Σ_j exp(s_ij − top_i).

    Args:
        total: (h, n, c).
        mass: (h, n).
        top: (h, n), about the largest logit; −∞ where there is no key.
    """

    total: Tensor
    mass: Tensor
    top: Tensor

    def merged(self, other: Part) -> Part:
        """Over the keys of both; the larger top stays exactly what it is."""
        top = torch.maximum(self.top, other.top)
        mine, its = (_shift(part.top, top) for part in (self, other))
        total = (self.total * mine[..., None]).addcmul_(other.total, its[..., None])
        return Part(total, (self.mass * mine).addcmul_(other.mass, its), top)

    def mean(self) -> Tensor:
        """The softmax times x, (h, n, c); zero for a query that sees no key."""
        return self.total / torch.where(self.mass > 0, self.mass, 1.0)[..., None]

    def log_mass(self) -> Tensor:
        """log Σ_j exp(s_ij), (h, n) in float64; −∞ for a query that sees no key."""
        return self.top.double() + self.mass.double().log()


def softmax_part(pair: Pair, x: Tensor, moments: bool = False) -> Part:
    """The softmax of the queries over these keys, times x (h, m, c).

    Args:
        pair: queries and keys.
        x: values of the keys, in the same precision.
        moments: one more column, Σ_j exp(s_ij − top_i) s_ij.
    """
    heads, n = pair.q.shape[:2]
    total = x.new_zeros(heads, n, x.shape[-1] + moments)
    mass, top = x.new_zeros(heads, n), x.new_full((heads, n), -math.inf)
    for some, queries, keys, logits in pair.blocks():
        highest = logits.amax(-1)
        top[some, queries] = highest
        weights = logits.sub_(highest.masked_fill(highest == -math.inf, 0.0)[..., None])
        given = torch.where(weights > -math.inf, weights, 0.0) if moments else None
        weights = weights.exp_()
        mass[some, queries] = weights.sum(-1)
        if x.shape[-1]:
            total[some, queries, : x.shape[-1]] = weights @ x[some, keys]
        if given is not None:
            shift = highest.masked_fill(highest == -math.inf, 0.0)
            total[some, queries, -1] = (weights * (given + shift[..., None])).sum(-1)
    return Part(total, mass, top)


def exponential_sums(pair: Pair, x: Tensor) -> Tensor:
    """Σ_j exp(s_ij) x_j with logits that are at most zero (up to rounding), (h, n, c); x (h, m, c)."""
    total = x.new_zeros(*pair.q.shape[:2], x.shape[-1])
    for some, queries, keys, logits in pair.blocks():
        total[some, queries] = logits.exp_() @ x[some, keys]
    return total


def _shift(top: Tensor, new: Tensor) -> Tensor:
    """exp(top − new), 0 where there was nothing."""
    return (top - new.masked_fill(new == -math.inf, 0.0)).exp_()


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
