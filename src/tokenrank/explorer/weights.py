"""Attention weights as they are stored, where queries and keys do not say everything: biases, windows, mixtures.

What stands in a slice, little-endian: u (heads, N, N) as uint16 or uint8. A[i, j] = u_ij² / Σ_k u_ik². Squares, since
small weights are many: at 1,024 tokens a row is off by 1e-5 to 6e-5 in ℓ1, and by 1e-4 to 1.4e-3 with plain numbers
(tests/explorer/test_weights.py). What is zero stays zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..operators import Operator

Whole = Literal["uint16", "uint8"]


def nbytes(heads: int, tokens: int, type: Whole) -> int:
    """Length of the slice of weights (heads, N, N)."""
    return heads * tokens * tokens * np.dtype(type).itemsize


def encoded(operator: Operator, heads: list[int], type: Whole) -> bytes:
    """The slice of some heads of an operator (heads, N, N), made block by block."""
    n = operator.num_tokens
    out = bytearray(nbytes(len(heads), n, type))
    most, item = np.iinfo(type).max, np.dtype(type).itemsize
    for place, head in enumerate(heads):
        for start, rows in row_blocks(operator.index(head)):
            roots = ((rows / rows.amax(-1, keepdim=True)).sqrt() * most).round()
            content = roots.cpu().numpy().astype(np.dtype(type).newbyteorder("<")).tobytes()
            begin = (place * n + start) * n * item
            out[begin : begin + len(content)] = content
    return bytes(out)


def decoded(slice: bytes, tokens: int, type: Whole, head: int) -> Tensor:
    """One head as a reader of the slice has it, (N, N) in float64, rows summing to one."""
    item = np.dtype(type).itemsize
    roots = np.frombuffer(slice, np.dtype(type).newbyteorder("<"), tokens * tokens, head * tokens * tokens * item)
    values = torch.from_numpy(roots.astype(np.float64).reshape(tokens, tokens)).square_()
    return values / values.sum(-1, keepdim=True)


def row_blocks(operator: Operator) -> Iterator[tuple[int, Tensor]]:
    """First row and rows, float64 (block, N), of an operator (N, N); about 16 MB at a time."""
    for start, stop in operator.blocks(torch.float64, 2**24):
        yield start, operator.rows(start, stop, torch.float64)
