"""Triangular chains need no iteration: block substitution."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

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
