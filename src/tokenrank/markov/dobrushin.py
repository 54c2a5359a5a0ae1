"""How much of the difference between two starts one step leaves: coefficients of ergodicity."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator
from .batching import head_groups

BLOCK = 256  # rows compared with one another at a time


def dobrushin(operator: Operator) -> Tensor:
    """δ(A) = ½ max_{i,k} Σ_j |A_ij − A_kj|, exact, float64 (*batch), 0 … 1.

    The largest total variation distance that is left between two walks after one step, wherever they began:
    ‖μA − νA‖₁ ≤ δ(A) ‖μ − ν‖₁. δ(AB) ≤ δ(A) δ(B), so that for a product of layers (``tr.compose``) it says how much
    of where a walk began can still show at its end; |λ₂| ≤ δ. 0: all rows are the same; 1: some two tokens attend to
    nothing in common.

    N² (N + 1)/2 differences a head in blocks of rows; see ``doeblin`` for a bound in O(N²).

    Source: Dobrushin, "Central limit theorem for nonstationary Markov chains" (1956); Seneta, "Non-negative Matrices
    and Markov Chains" (1981), chapter 4.3.
    """
    parts = [_of_group(group) for _, group in head_groups(operator, torch.float64)]
    return torch.cat(parts).reshape(operator.batch)


def doeblin(operator: Operator) -> Tensor:
    """1 − Σ_j min_i A_ij, float64 (*batch), 0 … 1: an upper bound of δ(A) in O(N²).

    What all tokens attend to in common is forgotten at once.

    Source: Doeblin (1937); Seneta (1981), chapter 4.3.
    """
    parts = []
    for _, group in head_groups(operator, torch.float64):
        least = torch.full(group.shape[:2], torch.inf, dtype=torch.float64, device=group.device)
        for start, stop in group.blocks(torch.float64):
            least = torch.minimum(least, group.rows(start, stop, torch.float64).amin(-2))
        parts.append((1 - least.sum(-1)).clamp(0, 1))
    return torch.cat(parts).reshape(operator.batch)


def _of_group(operator: Operator) -> Tensor:
    n = operator.num_tokens
    widest = torch.zeros(operator.shape[0], dtype=torch.float64, device=operator.device)
    starts = range(0, n, BLOCK)
    for start in starts:
        rows = operator.rows(start, min(start + BLOCK, n), torch.float64)
        for other in starts[: start // BLOCK + 1]:
            others = rows if other == start else operator.rows(other, min(other + BLOCK, n), torch.float64)
            widest = torch.maximum(widest, torch.cdist(rows, others, p=1.0).amax((-2, -1)))
    return (widest / 2).clamp(max=1)
