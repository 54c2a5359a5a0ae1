"""A few rows of a chain, wherever they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

ROWS = 128  # read at a time
FAR = 1e-3  # 1 − A_ii from which the subtraction costs at most three digits


def rows_of(operator: Operator, tokens: Tensor) -> Tensor:
    """Rows of A for the token indices (r,), (*batch, r, N) in float64."""
    n = operator.num_tokens
    rows = torch.empty(*operator.batch, len(tokens), n, dtype=torch.float64, device=operator.device)
    for start in range(0, len(tokens), ROWS):
        some = tokens[start : start + ROWS]
        units = torch.zeros(n, len(some), dtype=torch.float64, device=operator.device)
        units[some, torch.arange(len(some), device=operator.device)] = 1
        rows[..., start : start + len(some), :] = operator.rmatmul(units.expand(*operator.batch, -1, -1)).mT
    return rows


def leaving(operator: Operator) -> Tensor:
    """1 − A_ii, the probability of not staying, (*batch, N) in float64, to a few digits less than full precision.

    O(N d) from the diagonal; rows of tokens that almost only stay are read and their other entries summed, so
    that nothing cancels.
    """
    out = 1 - operator.diagonal(torch.float64)
    near = (out < FAR).reshape(-1, operator.num_tokens).any(0).nonzero()[:, 0]
    for some in near.split(ROWS):
        rows = rows_of(operator, some)
        rows[..., torch.arange(len(some), device=some.device), some] = 0.0
        out[..., some] = rows.sum(-1)
    return out
