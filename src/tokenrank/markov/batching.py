"""Heads in groups that fit into memory, materialised where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ..operators import Dense, Operator

DENSE_BYTES = 256 * 2**20  # what materialised heads may take at a time; a dense head pays after three applies


def head_groups(operator: Operator, dtype: torch.dtype) -> Iterator[tuple[slice, Operator]]:
    """The flattened batch in groups: ranges of heads and the operator (h, N, N) of each.

    Where a head fits into ``DENSE_BYTES`` the heads of a group are materialised in ``dtype``; beyond
    that (5,792 tokens in float64, 8,192 in float32) the operator stays as it is, all heads one group.
    """
    heads, n = math.prod(operator.batch), operator.num_tokens
    flat = operator.reshape(heads)
    size = DENSE_BYTES // (n * n * dtype.itemsize)
    if isinstance(operator, Dense):
        size = max(1, size)
    elif size == 0:
        yield slice(0, heads), flat
        return
    for start in range(0, heads, size):
        part = slice(start, min(start + size, heads))
        group = flat if size >= heads else flat.index(part)
        yield part, group if isinstance(group, Dense) else Dense(group.to_dense(dtype), operator.structure)
