"""Triangular chains with any diagonal: one substitution for each value of a shift."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

BLOCK = 256


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
