"""Batches: heads in groups and rows in blocks that fit into memory, materialised where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ...memory import free_bytes
from ...operators import Dense, Operator
from ...progress import track
from . import constants
from .placement import STORE_SHARE


def head_groups(
    operator: Operator, dtype: torch.dtype, group_bytes: int | None = None
) -> Iterator[tuple[slice, Operator]]:
    """The flattened batch in groups: ranges of heads and the operator (h, N, N) of each.

    Where a head fits into ``dense_room`` the heads of a group are materialised in ``dtype``; beyond that (on the host
    5,792 tokens in float64, 8,192 in float32) the operator stays as it is, all heads one group. Groups take no more
    than ``group_bytes`` if that is less, but for single heads: what is read many times had better stay in a cache.
    """
    heads, n = math.prod(operator.batch), operator.num_tokens
    flat = operator.reshape(heads)
    size = dense_room(operator) // (n * n * dtype.itemsize)
    if group_bytes is not None and size:
        size = max(1, min(size, group_bytes // (n * n * dtype.itemsize)))
    if isinstance(operator, Dense):
        size = max(1, size)
    elif size == 0:
        yield slice(0, heads), flat
        return
    for start in range(0, heads, size):
        part = slice(start, min(start + size, heads))
        group = flat if size >= heads else flat.index(part)
        yield part, group if isinstance(group, Dense) else Dense(group.to_dense(dtype), operator.structure)


def dense_room(operator: Operator) -> int:
    """Bytes that materialised heads may take at a time.

    On the device path half of what a store may take there, since what is asked of heads makes copies of them;
    ``constants.DENSE_BYTES`` on the host, and where a device does not say what it has free.
    """
    free = free_bytes(operator.device) if operator.path == "device" else None
    return constants.DENSE_BYTES if free is None else free // (2 * STORE_SHARE)


def told_groups(
    operator: Operator, dtype: torch.dtype, words: str, group_bytes: int | None = None
) -> Iterator[tuple[slice, Operator]]:
    """``head_groups``, of which progress is told where there are several heads; ``words`` say what they are asked."""
    heads, groups = math.prod(operator.batch), head_groups(operator, dtype, group_bytes)
    return groups if heads < 2 else track(groups, f"{words} of heads", heads, counts=_width)


def _width(group: tuple[slice, Operator]) -> int:
    return int(group[0].stop - group[0].start)


def image(operator: Operator, x: Tensor) -> Tensor:
    """Aᵀ x in float64 for x (h, N, c), in one pass over weights in memory, in blocks of rows that stay in the cache.

    What sums are off by is bounded by ``image_rounding``.
    """
    if not isinstance(operator, Dense) or operator.device.type != "cpu":
        return operator.T @ x
    found = []
    for weights, columns in zip(operator.weights, x, strict=True):
        found.append(weighted_rows(weights, columns, divided=operator.dtype != torch.float64))
    return torch.stack(found).mT


def weighted_rows(weights: Tensor, x: Tensor, divided: bool = False) -> Tensor:
    """xᵀ W in float64, (c, N), for one head of weights (N, N), rows as they are or divided by their sums; x (N, c)."""
    n = len(weights)
    size = _image_rows(n)
    if weights.dtype == torch.float64 and not divided and n <= 2 * constants.RANK_DIRECT:
        # few blocks: one call for all that are whole
        whole = n - n % size
        blocks, columns = weights[:whole].view(-1, size, n), x[:whole].view(-1, size, x.shape[-1])
        sums = torch.bmm(columns.mT, blocks).sum(0)
        return sums if whole == n else sums + x[whole:].mT @ weights[whole:]
    sums = x.new_zeros(x.shape[-1], n)
    for rows, part in zip(weights.split(size), x.split(size), strict=True):
        block = rows.double()
        # the chain in double precision is that of the rows divided by their exact sums
        sums += (part / block.sum(-1, keepdim=True) if divided else part).mT @ block
    return sums


def image_rounding(operator: Operator) -> float:
    """A bound of ‖computed − exact‖₁ of α Aᵀ x + (1 − α) v − x in float64, for distributions x and v and α ≤ 1.

    A sum of n non-negative numbers is off by at most n u times itself, whatever its order, u = ε/2 (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 4.2); a block of rows first, then the blocks.
    """
    n = operator.num_tokens
    terms = 2 * n  # rows of what a chain is made of may be divided by their sums
    if isinstance(operator, Dense) and operator.device.type == "cpu":
        size = _image_rows(n)
        terms = size + -(-n // size) + (n if operator.dtype != torch.float64 else 0)  # the sums of the rows, too
    return (terms + 16) * torch.finfo(torch.float64).eps / 2


def _image_rows(n: int) -> int:
    """Rows of a block: half a megabyte, from 16 to 64."""
    return max(1, min(n, 64, max(16, 2**16 // n)))


RUN = 16  # tokens in a row, on average, from which rows are read as they are
FAR = 1e-3  # 1 − A_ii from which the subtraction costs at most three digits


def rows_of(operator: Operator, tokens: Tensor) -> Tensor:
    """Rows of A for the token indices (r,), (*batch, r, N) in float64.

    Tokens that follow each other, such as padding, are read as rows; others by a product with units. Indices on the
    host are not waited for.
    """
    n = operator.num_tokens
    rows = torch.empty(*operator.batch, len(tokens), n, dtype=torch.float64, device=operator.device)
    ends = [0, *((tokens.diff() != 1).nonzero()[:, 0] + 1).tolist(), len(tokens)]
    if len(tokens) >= RUN * (len(ends) - 1):
        for begin, end in pairwise(ends):
            for start in range(begin, end, constants.ROWS_AT_ONCE):
                stop, token = min(start + constants.ROWS_AT_ONCE, end), int(tokens[start])
                rows[..., start:stop, :] = operator.rows(token, token + stop - start, torch.float64)
        return rows
    for start in range(0, len(tokens), constants.ROWS_AT_ONCE):
        some = tokens[start : start + constants.ROWS_AT_ONCE].to(operator.device, non_blocking=True)
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
