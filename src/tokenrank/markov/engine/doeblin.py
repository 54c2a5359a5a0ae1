"""Doeblin's coefficient: what all rows have in common, in one look at each."""

from __future__ import annotations

import torch
from torch import Tensor

from ...operators import Operator
from .batching import head_groups


def doeblin(operator: Operator) -> Tensor:
    """1 − Σ_j min_i A_ij, float64 (*batch), 0 … 1: an upper bound of δ(A) in O(N²).

    What all tokens attend to in common is forgotten at once.

    Source: Doeblin (1937); Seneta (1981), chapter 4.3.
    """
    parts = []
    # each row is looked at once: on a device nothing is built for that
    as_it_is = [operator.reshape(operator.batch.numel())] if operator.path == "device" else None
    for group in as_it_is or (group for _, group in head_groups(operator, torch.float64)):
        least = torch.full(group.shape[:2], torch.inf, dtype=torch.float64, device=group.device)
        for start, stop in group.blocks(torch.float64):
            least = torch.minimum(least, group.rows(start, stop, torch.float64).amin(-2))
        parts.append((1 - least.sum(-1)).clamp(0, 1))
    return torch.cat(parts).reshape(operator.batch)
