"""State reduction in halves: I − Q of a walk that ends as a product of triangles, without a subtraction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALL = 16  # states reduced one by one; larger blocks in halves, by matrix products
TINY = torch.finfo(torch.float64).tiny  # ways out that sum to less count as none


@dataclass(frozen=True)
class Factors:
    """I − Q = S⁻¹ (D − V)(I − R), S = diag(2^−exponents)."""

    triangles: Tensor  # (h, M, M): −V below, D on and −R above the diagonal
    dead: Tensor  # bool (h, M): no way to a later state or out; the pivot then counts as one
    exponents: Tensor  # int (h, M): rows were divided by two to this power


def factors(q: Tensor, exits: Tensor) -> Factors:
    """Of Q (h, M, M) with exits (h, M), both ≥ 0 and in float64; the diagonal of Q is not read."""
    t = q.clone()
    t.diagonal(dim1=-2, dim2=-1).zero_()
    # rows to about one, without rounding: products of small numbers then underflow much later
    exponents = torch.frexp(t.sum(-1) + exits).exponent.clamp(max=0)
    t, out = shifted(t, -exponents[..., None]), shifted(exits, -exponents)
    dead = torch.zeros_like(out, dtype=torch.bool)
    _reduce(t, out, dead)
    return Factors(t, dead, exponents)


def _reduce(t: Tensor, out: Tensor, dead: Tensor) -> None:
    """Factors of the block t (h, m, m) in place; ``out`` (h, m) are the ways out of the block."""
    m = t.shape[-1]
    if m <= SMALL:
        _reduce_one_by_one(t, out, dead)
        return
    half = SMALL * -(-m // (2 * SMALL))
    first, right, below, second = t[:, :half, :half], t[:, :half, half:], t[:, half:, :half], t[:, half:, half:]
    _reduce(first, out[:, :half] + right.sum(-1), dead[:, :half])
    rhs = torch.cat([right, out[:, :half, None]], -1)
    onward = torch.linalg.solve_triangular(first, rhs, upper=False)  # R of the right block, and out
    caught = dead[:, :half, None]
    onward[..., :-1].masked_fill_(caught, 0.0)
    onward[..., -1:].masked_fill_(caught, 1.0)  # who is caught there does not come back either
    v = torch.linalg.solve_triangular(first, below, upper=True, left=False, unitriangular=True)
    through = v @ onward
    second += through[..., :-1]
    right.copy_(-onward[..., :-1])
    below.copy_(-v)
    _reduce(second, out[:, half:] + through[..., -1], dead[:, half:])


def _reduce_one_by_one(t: Tensor, out: Tensor, dead: Tensor) -> None:
    m = t.shape[-1]
    w = torch.cat([t, out[..., None]], -1)
    pivots = []
    for k in range(m):
        row = w[:, k, k + 1 :]
        pivot = row.sum(-1, keepdim=True)
        caught = pivot < TINY
        pivot = torch.where(caught, 1.0, pivot)
        row /= pivot
        row.masked_fill_(caught, 0.0)
        row[:, -1:].masked_fill_(caught, 1.0)
        w[:, k + 1 :, k + 1 :] += w[:, k + 1 :, k, None] * row[:, None]
        pivots.append(pivot)
        dead[:, k] = caught[:, 0]
    torch.neg(w[..., :m], out=t)
    t.diagonal(dim1=-2, dim2=-1).copy_(torch.cat(pivots, -1))


def shifted(x: Tensor, exponent: Tensor) -> Tensor:
    """x · 2^exponent in two steps, since a single factor may overflow."""
    half = torch.div(exponent, 2, rounding_mode="floor")
    return torch.ldexp(torch.ldexp(x, half), exponent - half)
