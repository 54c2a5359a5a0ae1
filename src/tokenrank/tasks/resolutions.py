"""Attention of layers with different grids as one matrix, layer after layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chain import AttentionChain
from ..errors import InputError

Grid: TypeAlias = "tuple[int, int]"
OneLayer: TypeAlias = "tuple[Tensor | AttentionChain, Grid]"

CHUNK_BYTES = 8 * 2**20  # of rows at a time, heads and all: what is made of a layer stays small beside its matrix


def aggregate_resolutions(maps: Iterable[OneLayer], grid: Grid | None = None) -> Tensor:
    """Attention of layers with different grids as one row-stochastic matrix on the finest.

    Layers of one grid are averaged. Then every query's map of keys is upsampled bilinearly and divided by its sum,
    queries are repeated to the finer grid (nearest), and the resolutions are added with weights R / Σ R, where R is
    the side of the grid, √(rows · columns).

    Layers are taken one after the other and forgotten; chains are read a few rows at a time, so that queries and keys
    never become a matrix. Beside the answer there is one matrix of every coarser grid, and 0.1 GB at most.

    Args:
        maps: (weights (*batch, P, P) or a chain of that shape, (rows, columns)) of each layer; rows of weights sum to
            one. Leading dimensions (heads, steps) are averaged. An iterator will do.
        grid: of the answer; the largest of all where None.

    Returns:
        (P, P) on the CPU, rows sum to one; float32, or float64 where a layer is. Sums of rows are taken in float64.

    Raises:
        InputError: no maps, or weights that do not fit their grid.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), attention aggregation.
    """
    sums: dict[Grid, Tensor] = {}
    counts: dict[Grid, int] = {}
    for weights, own in maps:
        _check(weights, own)
        before = sums.get(own)
        dtype = torch.promote_types(weights.dtype, torch.float32 if before is None else before.dtype)
        tokens = own[0] * own[1]
        sums[own] = torch.zeros(tokens, tokens, dtype=dtype) if before is None else before.to(dtype)
        _add(sums[own], weights)
        counts[own] = counts.get(own, 0) + 1
    if not sums:
        raise InputError("no attention given, expected one layer at least")
    target = grid or max(sums, key=lambda g: g[0] * g[1])
    sides = {own: (own[0] * own[1]) ** 0.5 for own in sums}
    shares = {own: sides[own] / sum(sides.values()) / counts[own] for own in sums}
    if target in sums:
        mixed = sums.pop(target).mul_(shares[target])
    else:
        dtype = max((kept.dtype for kept in sums.values()), key=lambda d: d.itemsize)
        mixed = torch.zeros(target[0] * target[1], target[0] * target[1], dtype=dtype)
    if any(kept.dtype == torch.float64 for kept in sums.values()):
        mixed = mixed.double()
    for own in list(sums):
        _add_resized(mixed, sums.pop(own), own, target, shares[own] * counts[own])
    return _normalised(mixed)


def _check(weights: Tensor | AttentionChain, own: Grid) -> None:
    if tuple(weights.shape[-2:]) != (own[0] * own[1],) * 2:
        raise InputError(f"weights have shape {tuple(weights.shape)} for a grid of {own[0]} × {own[1]} tokens")
    if not weights.dtype.is_floating_point:
        raise InputError(f"weights are {weights.dtype}, expected probabilities in floating point")


def _add(total: Tensor, weights: Tensor | AttentionChain) -> None:
    """Add the mean of a layer over its leading dimensions, a few rows at a time."""
    leading = tuple(range(weights.ndim - 2)) if isinstance(weights, Tensor) else tuple(range(len(weights.batch)))
    many = weights.shape[:-2].numel()
    for start, stop in _chunks(len(total), many * len(total) * total.dtype.itemsize):
        if isinstance(weights, Tensor):
            rows = weights[..., start:stop, :].to(total.dtype)
        else:
            rows = weights.operator.rows(start, stop).to(total.dtype)
        total[start:stop] += (rows.mean(leading) if leading else rows).cpu()


def _add_resized(mixed: Tensor, total: Tensor, own: Grid, target: Grid, share: float) -> None:
    """Add a coarser (or finer) grid's sum of layers, whatever its scale: its rows are divided by their sums."""
    rows = torch.arange(target[0]) * own[0] // target[0]
    columns = torch.arange(target[1]) * own[1] // target[1]
    seen = (rows[:, None] * own[1] + columns).flatten()  # the own query of every query of the target
    order = seen.argsort(stable=True)
    for start, stop in _chunks(len(total), len(mixed) ** 2 // len(total) * mixed.dtype.itemsize):
        part = total[start:stop].to(mixed.dtype).reshape(-1, 1, *own)
        keys = F.interpolate(part, target, mode="bilinear", align_corners=False).flatten(1)
        keys *= (share / keys.sum(-1, keepdim=True, dtype=torch.float64)).to(keys.dtype)
        bounds = torch.searchsorted(seen[order], torch.tensor([start, stop]))
        queries = order[int(bounds[0]) : int(bounds[1])]
        mixed.index_add_(0, queries, keys[seen[queries] - start])


def _normalised(mixed: Tensor) -> Tensor:
    for start, stop in _chunks(len(mixed), len(mixed) * 8):
        rows = mixed[start:stop]
        rows /= rows.sum(-1, keepdim=True, dtype=torch.float64).to(rows.dtype)
    return mixed


def _chunks(count: int, row_bytes: int) -> list[tuple[int, int]]:
    size = max(1, CHUNK_BYTES // max(1, row_bytes))
    return [(start, min(start + size, count)) for start in range(0, count, size)]
