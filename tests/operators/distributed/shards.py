"""Chains whose tokens are spread over ranks, from tensors that all of them have whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tokenrank.operators.distributed import Ring, RingQueryKey, contiguous, from_query_key, zigzag

TIMEOUT = 30.0


@cache
def ring_of(size: int) -> Ring:
    """All four ranks, or the half of them that this one is in."""
    if size == 4:
        return Ring(timeout=TIMEOUT)
    half = [0, 1] if dist.get_rank() < 2 else [2, 3]
    return Ring(dist.new_group(half, use_local_synchronization=True), TIMEOUT)


def parts(how: str, n: int, size: int) -> list[Tensor]:
    """Token indices of each rank: "even", "uneven" with a rank that has none, "zigzag", or "striped"."""
    if how == "zigzag":
        return zigzag(n, size)
    if how == "striped":
        return [torch.arange(rank, n, size) for rank in range(size)]
    if how == "even":
        return [part.clone() for part in torch.arange(n).tensor_split(size)]
    sizes = {2: (n - 2, 2), 4: (n - 5, 0, 3, 2)}[size]
    return list(contiguous(sizes).tokens)


def spread(
    q: Tensor, k: Tensor, size: int, how: str = "even", mask: Tensor | None = None, **options: Any
) -> RingQueryKey:
    """The chain of whole q, k and mask, of which each rank is given its own part."""
    ring = ring_of(size)
    mine = parts(how, q.shape[-2], size)[ring.rank]
    if mask is not None:
        mask = mask[..., mine, :]
    tokens = mine if how in ("zigzag", "striped") else None
    return from_query_key(q[..., mine, :], k[..., mine, :], ring, mask=mask, tokens=tokens, **options)
