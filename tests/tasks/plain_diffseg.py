"""DiffSeg step by step, as Tian et al. (CVPR 2024) describe it: whole copies, loops, nothing shared with the package.

An oracle for the tests, and what ``benchmarks/diffseg_cost.py`` compares with.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


def aggregated(layers: Iterable[tuple[Tensor, Grid]]) -> tuple[Tensor, Grid]:
    """A_f (P, P) on the finest grid, from weights (heads, P, P) and the grid of every layer; in their dtype."""
    sums: dict[Grid, Tensor] = {}
    counts: dict[Grid, int] = {}
    for weights, grid in layers:
        sums[grid] = sums[grid] + weights if grid in sums else weights
        counts[grid] = counts.get(grid, 0) + 1
    means = {grid: (total / counts[grid]).mean(0) for grid, total in sums.items()}  # of layers, then of heads
    finest = max(means, key=lambda grid: grid[0] * grid[1])
    rows, columns = finest
    total = torch.zeros(rows * columns, rows * columns, dtype=next(iter(means.values())).dtype)
    whole = sum((r * c) ** 0.5 for r, c in means)
    for (r, c), mean in means.items():
        keys = F.interpolate(mean.reshape(r * c, 1, r, c), finest, mode="bilinear", align_corners=False)
        keys = keys.reshape(r * c, rows * columns)
        keys = keys / keys.sum(1, keepdim=True)
        queries = [(i * r // rows) * c + j * c // columns for i in range(rows) for j in range(columns)]
        total = total + (r * c) ** 0.5 / whole * keys[queries]
    return total, finest


def evenly_spaced(grid: Grid, anchors: int) -> list[int]:
    """M along a side of s tokens: stride (s − 1) // (M − 1), what is left split before and after."""

    def side(size: int) -> list[int]:
        many = min(anchors, size)
        if many == 1:
            return [(size - 1) // 2]
        stride = (size - 1) // (many - 1)
        start = (size - 1 - stride * (many - 1)) // 2
        return [start + i * stride for i in range(many)]

    return [row * grid[1] + column for row in side(grid[0]) for column in side(grid[1])]


def distances(one: Tensor, log_one: Tensor, others: Tensor, log_others: Tensor, half: bool = False) -> Tensor:
    """D(p, q) = ½ [KL(p‖q) + KL(q‖p)] = ½ Σ (p − q)(log p − log q) of a map (P,) and all others (N, P).

    ``half``: maps and logarithms rounded to half precision, multiplied in it and added up in single precision: one
    reading of the published first iteration.
    """
    if half:
        return 0.5 * ((one.half() - others.half()) * (log_one.half() - log_others.half())).float().sum(1)
    return 0.5 * ((one - others) * (log_one - log_others)).sum(1)


def merged(maps: Tensor, anchors: list[int], tau: float, iterations: int = 3, half: bool = False) -> Tensor:
    """Proposals (K, P) from maps (N, P) and the rows to begin with."""
    logs = maps.log()
    proposals = torch.stack([maps[distances(maps[a], logs[a], maps, logs, half) < tau].mean(0) for a in anchors])
    for _ in range(iterations - 1):
        logs = proposals.log()
        visited: set[int] = set()
        means = []
        for i in range(len(proposals)):
            if i in visited:
                continue
            near = (distances(proposals[i], logs[i], proposals, logs) < tau).nonzero()[:, 0].tolist()
            visited.update(near)
            means.append(proposals[near].mean(0))
        proposals = torch.stack(means)
    return proposals


def labels_of(proposals: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
    """Every pixel's proposal after bilinear upsampling, int64 (H, W), renumbered without gaps from 1."""
    maps = F.interpolate(proposals.reshape(1, -1, *grid), size, mode="bilinear", align_corners=False)[0]
    winner = maps.argmax(0)
    return torch.unique(winner, return_inverse=True)[1] + 1


def segmented(
    layers: Iterable[tuple[Tensor, Grid]],
    size: tuple[int, int],
    tau: float,
    anchors: int = 16,
    iterations: int = 3,
    half: bool = False,
) -> Tensor:
    """Labels of a picture, int64 (H, W), from the attention of its layers."""
    maps, grid = aggregated(layers)
    return labels_of(merged(maps, evenly_spaced(grid, anchors), tau, iterations, half), grid, size)
