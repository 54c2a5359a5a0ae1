"""Heads in groups that fit into memory, materialised where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ..operators import Dense, Operator

DENSE_TOKENS = 2048  # up to here a dense head beats the fused kernels after about three applies
DENSE_BYTES = 256 * 2**20  # what the materialised heads of one group may take


def head_groups(operator: Operator, dtype: torch.dtype) -> Iterator[tuple[slice, Operator]]:
    """The flattened batch in groups: ranges of heads and the operator (h, N, N) of each.

    Up to ``DENSE_TOKENS`` tokens a group is materialised in ``dtype``; beyond that the operator
    stays as it is and all heads are one group.
    """
    heads, n = math.prod(operator.batch), operator.num_tokens
    flat = operator.reshape(heads)
    if isinstance(operator, Dense) or n > DENSE_TOKENS:
        yield slice(0, heads), flat
        return
    size = max(1, DENSE_BYTES // (n * n * dtype.itemsize))
    for start in range(0, heads, size):
        part = slice(start, min(start + size, heads))
        group = flat if size >= heads else flat.index(part)
        yield part, Dense(group.to_dense(dtype), operator.structure)
