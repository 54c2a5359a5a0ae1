"""Synthetic heads for the benchmarks: queries and keys whose chains mix at very different speeds."""

from __future__ import annotations

import torch
from torch import Tensor

HEADS, WIDTH = 12, 64


def synthetic_heads(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """q and k, (12, n, 64) in float32.

    A third of the heads is Gaussian (from flat to peaked), a third attends to neighbours on a
    two-dimensional grid (random Fourier features of the position), a third to clusters.
    """
    g = torch.Generator().manual_seed(seed)
    side = int(n**0.5)
    ys, xs = torch.linspace(0, 1, side), torch.linspace(0, 1, -(-n // side))
    position = torch.cartesian_prod(ys, xs)[:n]
    queries, keys = [], []
    for head in range(HEADS):
        kind, step = head % 3, head / HEADS
        if kind == 0:
            q = torch.randn(n, WIDTH, generator=g) * (1 + 2 * step)
            k = torch.randn(n, WIDTH, generator=g)
        elif kind == 1:
            angles = position @ torch.randn(2, WIDTH // 2, generator=g) * (3 + 18 * step)
            k = torch.cat([angles.cos(), angles.sin()], -1) * (3 + 4 * step)
            q = k + 0.3 * torch.randn(n, WIDTH, generator=g)
        else:
            centres = torch.randn(3 + head, WIDTH, generator=g) * (0.8 + step)
            member = torch.randint(0, 3 + head, (n,), generator=g)
            q = centres[member] + 0.5 * torch.randn(n, WIDTH, generator=g)
            k = centres[member] + 0.5 * torch.randn(n, WIDTH, generator=g)
        queries.append(q)
        keys.append(k)
    return torch.stack(queries), torch.stack(keys)
