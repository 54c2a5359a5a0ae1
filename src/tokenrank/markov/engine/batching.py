"""Batches: heads in groups and rows in blocks that fit into memory, materialised where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...operators import Dense, Operator
from . import constants


def head_groups(operator: Operator, dtype: torch.dtype) -> Iterator[tuple[slice, Operator]]:
    """The flattened batch in groups: ranges of heads and the operator (h, N, N) of each.

    Where a head fits into ``constants.DENSE_BYTES`` the heads of a group are materialised in ``dtype``; beyond
    that (5,792 tokens in float64, 8,192 in float32) the operator stays as it is, all heads one group.
    """
    heads, n = math.prod(operator.batch), operator.num_tokens
    flat = operator.reshape(heads)
    size = constants.DENSE_BYTES // (n * n * dtype.itemsize)
    if isinstance(operator, Dense):
        size = max(1, size)
    elif size == 0:
        yield slice(0, heads), flat
        return
    for start in range(0, heads, size):
        part = slice(start, min(start + size, heads))
        group = flat if size >= heads else flat.index(part)
        yield part, group if isinstance(group, Dense) else Dense(group.to_dense(dtype), operator.structure)


FAR = 1e-3  # 1 − A_ii from which the subtraction costs at most three digits


def rows_of(operator: Operator, tokens: Tensor) -> Tensor:
    """Rows of A for the token indices (r,), (*batch, r, N) in float64."""
    n = operator.num_tokens
    rows = torch.empty(*operator.batch, len(tokens), n, dtype=torch.float64, device=operator.device)
    for start in range(0, len(tokens), constants.ROWS_AT_ONCE):
        some = tokens[start : start + constants.ROWS_AT_ONCE]
        units = torch.zeros(n, len(some), dtype=torch.float64, device=operator.device)
        units[some, torch.arange(len(some), device=operator.device)] = 1
        rows[..., start : start + len(some), :] = (operator.T @ units.expand(*operator.batch, -1, -1)).mT
    return rows


def leaving(operator: Operator) -> Tensor:
    """1 − A_ii, the probability of not staying, (*batch, N) in float64, to a few digits less than full precision.

    O(N d) from the diagonal; rows of tokens that almost only stay are read and their other entries summed, so
    that nothing cancels.
    """
    out = 1 - operator.diagonal(torch.float64)
    near = (out < FAR).reshape(-1, operator.num_tokens).any(0).nonzero()[:, 0]
    for some in near.split(constants.ROWS_AT_ONCE):
        rows = rows_of(operator, some)
        rows[..., torch.arange(len(some), device=some.device), some] = 0.0
        out[..., some] = rows.sum(-1)
    return out
