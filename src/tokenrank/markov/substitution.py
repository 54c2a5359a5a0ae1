"""Triangular chains need no iteration: x = α Aᵀ x + b by block substitution."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

BLOCK = 256


def substitute(operator: Operator, b: Tensor, alpha: float) -> Tensor:
    """Solve x = α Aᵀ x + b exactly for a triangular operator (h, N, N); b and x (h, N).

    A causal (lower) chain is solved from the last token back, each block of rows pushing its
    mass to the tokens before it; a reversed (upper) chain from the first token on, each block
    of columns pulling. Memory O(N · block); arithmetic as for one dense product.
    """
    n, dtype = operator.num_tokens, b.dtype
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


def _corner(block: Tensor, b: Tensor, alpha: float, upper: bool) -> Tensor:
    eye = torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)
    return torch.linalg.solve_triangular(eye - alpha * block.mT, b[..., None], upper=upper)[..., 0]
