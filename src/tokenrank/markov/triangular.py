"""Eigenvectors of triangular chains by substitution."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

BLOCK = 256
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
