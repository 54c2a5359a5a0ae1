"""Logits as a product of queries and keys and the steps taken since, put together on demand."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiplication by a number, or by one number a head (…, 1, 1)."""

    by: float | Tensor


@dataclass(frozen=True, eq=False)
class Add:
    """Addition of factor · term; ``lead`` are the leading dimensions of the sum."""

    term: Tensor
    factor: float
    lead: torch.Size


@dataclass(frozen=True, eq=False)
class Hide:
    """Entries overwritten with one number where ``where`` is ``hidden``."""

    where: Tensor
    hidden: bool
    lead: torch.Size


@dataclass(frozen=True, eq=False)
class Fold:
    """Another arrangement of the leading dimensions, such as (B, H) to (B · H)."""

    lead: torch.Size


@dataclass(frozen=True, eq=False)
class Append:
    """One more column (…, N, 1) after the last one: an attention sink."""

    column: Tensor


@dataclass(frozen=True, eq=False)
class Spread:
    """Queries and keys laid out as grids: (…, N, M) seen as ``shape`` = (…, rows, columns, rows, columns)."""

    shape: torch.Size


LogitStep = Scale | Add | Hide | Fold | Append | Spread


@dataclass(frozen=True, eq=False)
class Logits:
    """a bᵀ and what was done to it; holds references, computes nothing.

    Attributes:
        a: left operand, (…, N, d) unless ``einsum`` says otherwise.
        b: right operand, (…, d, M) unless ``einsum`` says otherwise.
        dtype: in which the product was rounded.
        einsum: how to read both, for Einstein sums.
        steps: in order.
        matrix: (N, M) while they are spread into grids, otherwise None.
        cast: a narrower type that they went through since.
    """

    a: Tensor
    b: Tensor
    dtype: torch.dtype
    einsum: EinsumProduct | None = None
    steps: tuple[LogitStep, ...] = ()
    matrix: torch.Size | None = None
    cast: torch.dtype | None = None

    @property
    def coarsest(self) -> torch.dtype:
        """The narrowest type in which they were rounded."""
        return self.cast or self.dtype

    @property
    def has_sink(self) -> bool:
        """Whether a column was appended."""
        return any(isinstance(step, Append) for step in self.steps)

    def then(self, step: LogitStep) -> Logits:
        """The logits after one more step."""
        return replace(self, steps=(*self.steps, step))

    def spread(self, shape: torch.Size, matrix: torch.Size) -> Logits:
        """The logits as grids; ``matrix`` is (N, M)."""
        return replace(self.then(Spread(shape)), matrix=matrix)

    def gathered(self, lead: torch.Size) -> Logits:
        """The logits as a matrix again."""
        return replace(self.then(Fold(lead)), matrix=None)

    def resolve(self, lead: torch.Size) -> Resolved | None:
        """q, k, scale, masks and sinks of logits with leading dimensions ``lead``.

        None where the appended column is not one number a head.
        """
        q, k = (self.a, self.b.mT) if self.einsum is None else self.einsum.operands(self.a, self.b)
        if self.dtype.itemsize < q.dtype.itemsize:  # autocast rounded them before it multiplied
            q, k = q.to(self.dtype), k.to(self.dtype)
        same = q.shape[:-2] == k.shape[:-2]
        parts = _Parts(q, k, q.shape[:-2] if same else torch.Size(np.broadcast_shapes(q.shape[:-2], k.shape[:-2])))
        for step in self.steps:
            parts.take(step)
        return parts.resolved(lead)


@dataclass(frozen=True, eq=False)
class Resolved:
    """softmax of scale · q kᵀ + Σ terms, overwritten with one number where ``allowed`` is False.

    Attributes:
        q: (…, H, N, d).
        k: (…, H or fewer, M, d).
        scale: factor of q kᵀ.
        terms: what was added, each broadcastable to (…, H, N, M).
        allowed: bool, broadcastable likewise; None where nothing was overwritten.
        sinks: (H,), as in ``AttentionRecord``.
    """

    q: Tensor
    k: Tensor
    scale: float
    terms: tuple[Tensor, ...] = ()
    allowed: Tensor | None = None
    sinks: Tensor | None = None


class _Parts:
    """Replays steps; every tensor broadcasts to (*lead, N, M)."""

    def __init__(self, q: Tensor, k: Tensor, lead: torch.Size) -> None:
        self.q, self.k, self.lead = q, k, lead
        self.scale = 1.0
        self.head_scale: Tensor | None = None
        self.terms: list[Tensor] = []
        self.allowed: Tensor | None = None
        self.column: Tensor | None = None
        self.grids: torch.Size | None = None

    def take(self, step: LogitStep) -> None:
        if isinstance(step, Scale):
            self._scale(step.by)
        elif isinstance(step, Append):
            self.column = step.column
        elif isinstance(step, Spread):
            self.grids = step.shape
        elif isinstance(step, Add):
            if self.grids is None:
                self.lead = step.lead
            self._add(step.term, step.factor)
        elif isinstance(step, Hide):
            self.lead = step.lead
            allowed = _matrix(step.where.logical_not() if step.hidden else step.where.bool())
            self.allowed = allowed if self.allowed is None else self.allowed & allowed
        else:
            self.grids = None
            self._fold(step.lead)

    def resolved(self, lead: torch.Size) -> Resolved | None:
        q = self.q if self.head_scale is None else self.q * self.head_scale
        k = self.k
        if lead and (q.shape[:-2] != lead or k.shape[:-2] != lead):  # the keys may keep fewer heads than the queries
            heads = k.shape[-3] if k.ndim >= 3 else 1
            q, k = q.expand(*lead, *q.shape[-2:]), k.expand(*lead[:-1], heads, *k.shape[-2:])
        found = Resolved(q, k, self.scale, tuple(self.terms), self.allowed)
        if self.column is None:
            return found
        sinks = _one_a_head(self.column, lead)
        return None if sinks is None else replace(found, sinks=sinks)

    def _scale(self, by: float | Tensor) -> None:
        if isinstance(by, Tensor) and by.numel() == 1:
            by = by.reshape(())
        if isinstance(by, Tensor) and (by.ndim or by.is_meta):  # a number on "meta" has no value
            self.head_scale = by if self.head_scale is None else self.head_scale * by
        else:
            by = float(by)
            self.scale *= by
        self.terms = [term * by for term in self.terms]
        if self.column is not None:
            self.column = self.column * by

    def _add(self, term: Tensor, factor: float) -> None:
        if self.grids is not None:
            term = term.expand(self.grids).reshape(*self.lead, self.q.shape[-2], self.k.shape[-2])
        term = _matrix(term)
        if term.shape[-1] == 1 and (self.k.shape[-2] > 1 or self.column is not None):
            return  # the same number in a whole row: softmax does not see it
        term = term if factor == 1 and term.is_floating_point() else term * float(factor)
        self.terms.append(term)

    def _fold(self, lead: torch.Size) -> None:
        old, self.lead = self.lead, lead
        self.q, self.k = (t.expand(*old, *t.shape[-2:]).reshape(*lead, *t.shape[-2:]) for t in (self.q, self.k))
        self.head_scale, self.allowed, self.column, *terms = (
            _folded(t, old, lead) for t in (self.head_scale, self.allowed, self.column, *self.terms)
        )
        self.terms = [term for term in terms if term is not None]


def _folded(tensor: Tensor | None, old: torch.Size, lead: torch.Size) -> Tensor | None:
    if tensor is None:
        return None
    if tensor.shape[:-2].numel() == 1:  # the same for all leading dimensions
        return tensor.reshape(tensor.shape[-2:])
    return tensor.expand(*old, *tensor.shape[-2:]).reshape(*lead, *tensor.shape[-2:])


def _one_a_head(column: Tensor, lead: torch.Size) -> Tensor | None:
    """(H,) of a column (…, H, N, 1) that is the same for all queries and samples, otherwise None."""
    if not lead:
        return None
    column = _matrix(column)
    column = column.expand(*lead, *column.shape[-2:])
    sinks = column[(0,) * (len(lead) - 1)][:, 0, 0]
    same = column.is_meta or torch.equal(column, sinks[:, None, None].expand(column.shape))
    return sinks if same else None


def _matrix(tensor: Tensor) -> Tensor:
    while tensor.ndim < 2:
        tensor = tensor[None]
    return tensor


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
