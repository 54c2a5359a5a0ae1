"""One chain from attention at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError


def aggregate_resolutions(
    maps: Sequence[tuple[Tensor, tuple[int, int]]], grid: tuple[int, int] | None = None
) -> Tensor:
    """Attention of layers with different grids as one row-stochastic matrix on the finest.

    Layers of one grid are averaged. Then every query's map of keys is upsampled bilinearly and divided by its sum,
    queries are repeated to the finer grid (nearest), and the resolutions are added with weights R / Σ R, where R is
    the side of the grid, √(rows · columns).

    Args:
        maps: (weights (P, P), (rows, columns)) of each layer, rows of weights sum to one.
        grid: of the answer; the largest of all where None.

    Returns:
        float64 (P, P), rows sum to one.

    Raises:
        InputError: no maps, or weights that do not fit their grid.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), attention aggregation.
    """
    if not maps:
        raise InputError("no attention given, expected one layer at least")
    groups: dict[tuple[int, int], list[Tensor]] = {}
    for weights, own in maps:
        if weights.shape != (own[0] * own[1],) * 2:
            raise InputError(f"weights have shape {tuple(weights.shape)} for a grid of {own[0]} × {own[1]} tokens")
        groups.setdefault(own, []).append(weights.double())
    target = grid or max(groups, key=lambda g: g[0] * g[1])
    sides = {own: (own[0] * own[1]) ** 0.5 for own in groups}
    total = sum(sides.values())
    mixed = torch.zeros(target[0] * target[1], target[0] * target[1], dtype=torch.float64)
    for own, layers in groups.items():
        mean = torch.stack(layers).mean(0).cpu()
        mixed += sides[own] / total * _resized(mean, own, target)
    return mixed / mixed.sum(-1, keepdim=True)


def _resized(weights: Tensor, own: tuple[int, int], target: tuple[int, int]) -> Tensor:
    if own == target:
        return weights
    keys = F.interpolate(weights.reshape(-1, 1, *own), target, mode="bilinear", align_corners=False).flatten(1)
    keys = keys / keys.sum(-1, keepdim=True)
    rows = torch.arange(target[0]) * own[0] // target[0]
    columns = torch.arange(target[1]) * own[1] // target[1]
    return keys[(rows[:, None] * own[1] + columns).flatten()]
