"""Triangular (causal) chains solved by blocked substitution: solutions and eigenvectors."""

from __future__ import annotations

import torch
from torch import Tensor

from ...operators import Operator

BLOCK = 256
CAUGHT = 1e-304  # ways out of a token that sum to less count as none: times stay below the largest float64


def substitute(operator: Operator, b: Tensor, alpha: float | Tensor) -> Tensor:
    """Solve x = α Aᵀ x + b exactly for a triangular operator (h, N, N); b and x (h, N); α a number or (h,).

    A causal (lower) chain is solved from the last token back, each block of rows pushing its
    mass to the tokens before it; a reversed (upper) chain from the first token on, each block
    of columns pulling. Memory O(N · block); arithmetic as for one dense product.
    """
    n, dtype = operator.num_tokens, b.dtype
    alpha = torch.as_tensor(alpha, dtype=dtype, device=b.device).reshape(-1, 1)
    x = b.clone()
    starts = range(0, n, BLOCK)
    if operator.structure == "lower":
        for start in reversed(starts):
            stop = min(start + BLOCK, n)
            rows = operator.rows(start, stop, dtype)
            x[..., start:stop] = _corner(rows[..., start:stop], x[..., start:stop], alpha, upper=True)
            x[..., :start] += alpha * (x[..., None, start:stop] @ rows[..., :start])[..., 0, :]
    else:
        for start in starts:
            stop = min(start + BLOCK, n)
            columns = operator.columns(start, stop, dtype)
            x[..., start:stop] += alpha * (x[..., None, :start] @ columns[..., :start, :])[..., 0, :]
            x[..., start:stop] = _corner(columns[..., start:stop, :], x[..., start:stop], alpha, upper=False)
    return x


def _corner(block: Tensor, b: Tensor, alpha: Tensor, upper: bool) -> Tensor:
    eye = torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)
    return torch.linalg.solve_triangular(eye - alpha[..., None] * block.mT, b[..., None], upper=upper)[..., 0]


def substitute_killed(operator: Operator, alive: Tensor, b: Tensor) -> Tensor:
    """Solve x = Q x + b for Q = D A D, D = diag(alive), A triangular (h, N, N).

    Args:
        operator: A.
        alive: bool (h, N); from every token of it the walk gets out sooner or later.
        b: (h, N, c), zero off ``alive``.

    Pivots 1 − A_ii are taken as the sum of the row's other entries, so that nothing cancels where a token
    attends almost only to itself; with b ≥ 0 all of x is accurate entry by entry. Where float64 has no way out
    of a token (less than 1e-304 in all), x is inf on it and on all that lead to it if b ≠ 0 there; if b = 0 it
    contributes nothing.
    """
    x, caught = _substituted(operator, alive, b)
    if not bool(caught.any()):
        return x
    endless = caught[..., None] & (b != 0)
    leads_there, _ = _substituted(operator, alive, endless.to(b.dtype))
    return x.masked_fill(leads_there > 0, torch.inf)


def _substituted(operator: Operator, alive: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """x where caught tokens stop the walk with x = b, and which tokens are caught, bool (h, N)."""
    n, dtype = operator.num_tokens, b.dtype
    lower = operator.structure == "lower"
    x, caught = torch.zeros_like(b), torch.zeros_like(alive)
    for start in range(0, n, BLOCK) if lower else reversed(range(0, n, BLOCK)):
        stop = min(start + BLOCK, n)
        rows = operator.rows(start, stop, dtype).clone()
        rows[..., start:stop].diagonal(dim1=-2, dim2=-1).zero_()
        here = alive[:, start:stop, None]
        pivots = rows.sum(-1, keepdim=True)
        stuck = here & (pivots < CAUGHT)
        pivots = torch.where(here & ~stuck, pivots, 1.0)
        solved = slice(0, start) if lower else slice(stop, n)
        rhs = (b[:, start:stop] + rows[..., solved] @ x[:, solved]) / pivots
        corner = rows[..., start:stop] / pivots * -1
        x[:, start:stop] = torch.linalg.solve_triangular(
            corner.masked_fill(~here | stuck, 0.0), rhs.masked_fill(~here, 0.0), upper=not lower, unitriangular=True
        )
        caught[:, start:stop] = stuck[..., 0]
    return x, caught


APART = 1e-12  # diagonal entries closer than this are pulled apart: their vectors would be one


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
    values = diagonal.gather(-1, places)
    ascending = (operator.structure == "lower") != transposed
    x = torch.zeros(len(diagonal), n, count, dtype=torch.float64, device=operator.device)
    starts = list(range(0, n, BLOCK))
    for start in starts if ascending else reversed(starts):
        stop = min(start + BLOCK, n)
        rows = (
            operator.columns(start, stop, torch.float64).mT if transposed else operator.rows(start, stop, torch.float64)
        )
        for j in range(start, stop) if ascending else reversed(range(start, stop)):
            flow = (rows[:, j - start, None] @ x)[:, 0]  # x is still zero at j and beyond
            distance = values - diagonal[:, j, None]
            distance = torch.where(distance.abs() < APART, APART, distance)
            x[:, j] = torch.where(places == j, 1.0, flow / distance)
            largest = x[:, j].abs().clamp(min=1)
            x = torch.where((largest > 1e100)[:, None], x / largest[:, None], x)
    return x / torch.linalg.vector_norm(x, dim=-2, keepdim=True)


def substitute_shifted(operator: Operator, alive: Tensor, pivots: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Solve diag(p) x = α Oᵀ x + b, with O the off-diagonal part of A[S, S] for a triangular A (h, N, N).

    With p = λ − α diag(A) this is (λI − α A[S, S]ᵀ) x = b. The pivots are given and not computed here, so that
    a caller who knows λ relative to the largest diagonal entry loses no digits.

    Args:
        operator: A, "lower" or "upper".
        alive: S, bool (h, N).
        pivots: p (h, N), > 0 on S; ignored elsewhere.
        b: (h, N), ≥ 0; ignored off S.
        alpha: 0 … 1.

    Returns:
        x (h, N), zero off S. Sums, products and quotients of non-negative numbers only: every entry is accurate, or
        inf (and NaN beyond it) where it overflows. Memory O(N · block) beside the operator's.
    """
    n, lower = operator.num_tokens, operator.structure == "lower"
    x = torch.where(alive, b, 0.0)
    pivots = torch.where(alive, pivots, 1.0)
    starts = range(0, n, BLOCK)
    for start in reversed(starts) if lower else starts:
        part = slice(start, min(start + BLOCK, n))
        here = alive[:, part]
        if lower:  # the rows of this block push their mass to the tokens before it
            rows = operator.rows(part.start, part.stop, x.dtype)
            corner = rows[..., part]
        else:  # the columns of this block pull it from the tokens before it
            columns = operator.columns(part.start, part.stop, x.dtype)
            corner = columns[..., part, :]
            x[:, part] += alpha * (x[:, None, :start] @ columns[..., :start, :])[:, 0]
        rhs = torch.where(here, x[:, part], 0.0)
        system = torch.where(here[:, :, None] & here[:, None, :], -alpha * corner.mT, 0.0)
        system.diagonal(dim1=-2, dim2=-1).copy_(pivots[:, part])
        x[:, part] = torch.linalg.solve_triangular(system, rhs[..., None], upper=lower)[..., 0]
        if lower:
            x[:, :start] += alpha * (x[:, None, part] @ rows[..., :start])[:, 0]
    return x
