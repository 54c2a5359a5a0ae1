"""Synthetic heads: queries and keys whose chains mix at very different speeds."""

from __future__ import annotations

import torch
from torch import Tensor

HEADS, WIDTH = 12, 64


def synthetic_heads(tokens: int, heads: int = HEADS, width: int = WIDTH, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries and keys of heads for measurements, the same on every machine.

    A third of the heads is Gaussian (from flat to peaked), a third attends to neighbours on a two-dimensional grid
    (random Fourier features of the position), a third to clusters: |λ2| from 0.04 to 1.000.

    Args:
        tokens: N.
        heads: how many.
        width: d, even.
        seed: of the random numbers, which are drawn on the CPU.

    Returns:
        q and k, (heads, N, d), float32 on the CPU; logits are q kᵀ / √d.
    """
    g = torch.Generator().manual_seed(seed)
    side = int(tokens**0.5)
    ys, xs = torch.linspace(0, 1, side), torch.linspace(0, 1, -(-tokens // side))
    position = torch.cartesian_prod(ys, xs)[:tokens]
    queries, keys = [], []
    for head in range(heads):
        kind, step = head % 3, head / heads
        if kind == 0:
            q = torch.randn(tokens, width, generator=g) * (1 + 2 * step)
            k = torch.randn(tokens, width, generator=g)
        elif kind == 1:
            angles = position @ torch.randn(2, width // 2, generator=g) * (3 + 18 * step)
            k = torch.cat([angles.cos(), angles.sin()], -1) * (3 + 4 * step)
            q = k + 0.3 * torch.randn(tokens, width, generator=g)
        else:
            centres = torch.randn(3 + head, width, generator=g) * (0.8 + step)
            member = torch.randint(0, 3 + head, (tokens,), generator=g)
            q = centres[member] + 0.5 * torch.randn(tokens, width, generator=g)
            k = centres[member] + 0.5 * torch.randn(tokens, width, generator=g)
        queries.append(q)
        keys.append(k)
    return torch.stack(queries), torch.stack(keys)
