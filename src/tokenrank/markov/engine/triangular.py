"""Triangular (causal) chains: linear systems and eigenvectors by blocked substitution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...operators import Operator, Sweeping
from . import constants

APART = 1e-12  # diagonal entries closer than this are pulled apart: their vectors would be one
HUGE = 1e100  # entries of an eigenvector beyond which all of it is scaled down

Pivots = Tensor | Callable[[Tensor, slice], Tensor]  # numbers, or what makes them of a block of rows


def substitutes(operator: Operator) -> bool:
    """Whether systems with a chain are solved by substitution: triangular ones whose rows are at hand, or that can be
    swept if pivots are known.

    Where tokens are spread over processes, all rows would pass through each of them.
    """
    return operator.structure != "full" and (operator.path != "ranks" or _sweeps(operator))


def has_rows(operator: Operator) -> bool:
    """Whether rows of a chain cost no more than their share of a product."""
    return operator.path != "ranks"


def solve_triangular(
    operator: Operator,
    pivots: Pivots,
    b: Tensor,
    alpha: float = 1.0,
    transposed: bool = False,
    block: int | None = None,
) -> Tensor:
    """Solve diag(p) x = α O x + b, or α Oᵀ x + b, with O the off-diagonal part of a triangular A (h, N, N).

    With p = λ − α diag(A) this is (λI − αA) x = b. Pivots are given and not computed here, so that a caller who knows
    them better than as a difference loses no digits. An infinite pivot takes its token out of the chain: x is 0 there.

    Args:
        operator: A, "lower" or "upper".
        pivots: p, (h, N), or (h, N, c) for columns with pivots of their own; or what makes them of the rows of A
            (Aᵀ in the place of a reversed chain), (h, k, N), and the slice of tokens that these are of, each once.
        b: (h, N) or (h, N, c), float64.
        alpha: 0 … 1.
        transposed: Oᵀ in the place of O.
        block: tokens that are solved together; by default ``constants.TRIANGULAR_BLOCK``.

    Returns:
        x, shaped like b. With p > 0 and b ≥ 0 only sums, products and quotients of non-negative numbers are taken, so
        that every entry is accurate, or inf (and NaN beyond it) where it overflows. Memory O(N · block); arithmetic
        as for one dense product.
    """
    if b.ndim == 2:
        return solve_triangular(operator, pivots, b[..., None], alpha, transposed, block)[..., 0]
    block = block or constants.TRIANGULAR_BLOCK
    n, lower = operator.num_tokens, operator.structure == "lower"
    if isinstance(pivots, Tensor) and isinstance(operator, Sweeping) and operator.sweeps:
        known, ahead = pivots, lower != transposed

        def solve(part: slice, corner: Tensor, flow: Tensor) -> Tensor:
            rhs = torch.add(b[:, part], flow, alpha=alpha)
            return _corner(alpha * off_diagonal(corner), known[:, part], rhs, not ahead)

        return operator.swept(block, ahead, transposed, b.shape[-1], solve)
    # columns of a reversed chain are the rows of the other, and the cheaper ones
    by_columns, forwards, x = transposed and not lower, lower != transposed, b.clone()
    starts = range(0, n, block)
    for start in starts if forwards else reversed(starts):
        part = slice(start, min(start + block, n))
        lines = (operator.columns if by_columns else operator.rows)(start, part.stop, b.dtype)
        rows = lines.mT if by_columns else lines
        solved = slice(0, start) if forwards else slice(part.stop, n)
        if by_columns:
            x[:, part] += alpha * _transposed_product(lines[:, solved], x[:, solved])
        elif not transposed:
            x[:, part] += alpha * (rows[..., solved] @ x[:, solved])
        p = pivots[:, part] if isinstance(pivots, Tensor) else pivots(rows, part)
        corner = alpha * off_diagonal(rows[..., part])
        x[:, part] = _corner(corner.mT if transposed and lower else corner, p, x[:, part], not forwards)
        if transposed and lower:  # its rows push to the tokens that are still to come
            x[:, :start] += alpha * _transposed_product(rows[..., :start], x[:, part])
    return x


def substituted(operator: Operator, alpha: float, jump: Tensor) -> Tensor:
    """x = α Aᵀ x + (1 − α) v of a triangular chain, (h, N), without subtractions but in the pivots."""
    # on a device every block costs a dozen launches
    block = max(constants.TRIANGULAR_BLOCK, -(-operator.num_tokens // 8)) if operator.path == "device" else None

    def pivots(rows: Tensor, part: slice) -> Tensor:
        return 1 - alpha * rows[..., part].diagonal(dim1=-2, dim2=-1)

    known = 1 - alpha * operator.diagonal(torch.float64) if _sweeps(operator) else pivots
    return solve_triangular(operator, known, (1 - alpha) * jump, alpha, transposed=True, block=block)


def _sweeps(operator: Operator) -> bool:
    return isinstance(operator, Sweeping) and operator.sweeps


def off_diagonal(block: Tensor) -> Tensor:
    """A square block (…, k, k) with zeros on the diagonal."""
    block = block.clone()
    block.diagonal(dim1=-2, dim2=-1).zero_()
    return block


def _transposed_product(rows: Tensor, x: Tensor) -> Tensor:
    """Rᵀ x, as a row-major product: as such it would read R column by column."""
    return (x.mT @ rows).mT


def _corner(corner: Tensor, pivots: Tensor, b: Tensor, upper: bool) -> Tensor:
    """diag(p) x = C x + b for a strictly triangular C (h, k, k), p (h, k) or (h, k, c), b (h, k, c)."""
    if pivots.ndim == 2:
        scaled = corner / -pivots[..., None]
        return torch.linalg.solve_triangular(scaled, b / pivots[..., None], upper=upper, unitriangular=True)
    scaled = corner[:, None] / -pivots.mT[..., None]
    rhs = (b / pivots).mT[..., None]
    return torch.linalg.solve_triangular(scaled, rhs, upper=upper, unitriangular=True)[..., 0].mT


def triangular_vectors(operator: Operator, count: int, transposed: bool) -> Tensor:
    """Columns that span the slow subspace next to λ₁, (h, N, count) in float64.

    Right vectors of a causal (lower) chain: y_p = 1 at the token p that has the eigenvalue λ = A_pp, zero before
    it, and (λ − A_jj) y_j = Σ_{l<j} A_jl y_l after it; left ones run the other way. λ₁ is the first diagonal entry
    equal to one, the others follow by size.
    """
    n = operator.num_tokens
    diagonal = operator.diagonal(torch.float64)
    # the token without predecessors has the eigenvalue one of the constant vector
    first = diagonal.new_zeros(len(diagonal), n)
    first[:, 0 if operator.structure == "lower" else -1] = torch.inf
    places = (diagonal - first).topk(count, -1).indices
    start = torch.zeros(len(diagonal), n, count, dtype=torch.float64, device=operator.device)
    start.scatter_(1, places[:, None], 1.0)
    pivots = diagonal.gather(-1, places)[:, None] - diagonal[..., None]
    pivots = torch.where(start > 0, 1.0, torch.where(pivots.abs() < APART, APART, pivots))
    x = solve_triangular(operator, pivots, start, transposed=transposed)
    overflowed = (~torch.isfinite(x)).any(-1).any(-1).nonzero()[:, 0]
    if len(overflowed):
        x[overflowed] = scaled_vectors(operator.index(overflowed), pivots[overflowed], start[overflowed], transposed)
    x = x / x.abs().amax(-2, keepdim=True)
    return x / torch.linalg.vector_norm(x, dim=-2, keepdim=True)


def scaled_vectors(operator: Operator, pivots: Tensor, start: Tensor, transposed: bool) -> Tensor:
    """x of ``solve_triangular``, any multiple of it, where that overflows: token by token, scaled down as it grows.

    ``start`` (h, N, c) has one entry a column; nothing is known of the others.
    """
    n, x = operator.num_tokens, start.clone()
    forwards = (operator.structure == "lower") != transposed
    for j in range(n) if forwards else reversed(range(n)):
        row = operator.columns(j, j + 1, x.dtype).mT if transposed else operator.rows(j, j + 1, x.dtype)
        flow = (row @ x)[:, 0]  # x is still zero at j, and row is beyond
        x[:, j] = torch.where(start[:, j] > 0, x[:, j], flow / pivots[:, j])
        largest = x[:, j].abs().clamp(min=1)
        x = torch.where((largest > HUGE)[:, None], x / largest[:, None], x)
    return x
