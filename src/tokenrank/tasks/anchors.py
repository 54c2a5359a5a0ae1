"""Anchors of merging: where DiffSeg begins, evenly spaced or chosen by the chain."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import InputError

AnchorGrid: TypeAlias = Literal[
    "uniform", "tokenrank", "tokenrank-top", "tokenrank-nms", "tokenrank-sample", "tokenrank-cells", "metastable"
]


def anchors_of(
    chain: AttentionChain, shape: tuple[int, int], anchors: int = 16, grid: AnchorGrid = "uniform", sort: bool = False
) -> Tensor:
    """Anchors of a picture's chain, in order: ``uniform_grid``, ``tokenrank_grid`` or ``metastable_grid``.

    Args:
        chain: (P, P).
        shape: (rows, columns) of the picture.
        anchors: along each side.
        sort: bring them in the order of falling TokenRank.

    Returns:
        int64 indices, on the CPU.

    Raises:
        InputError: another ``grid``, or no anchors.
    """
    if grid not in get_args(AnchorGrid):
        raise InputError(f"grid = {grid!r}, expected one of {', '.join(get_args(AnchorGrid))}")
    rank = chain.tokenrank().values.cpu() if sort or grid.startswith("tokenrank") else None
    if grid == "uniform":
        chosen = uniform_grid(*shape, anchors)
    elif grid == "metastable":
        states = chain.metastable()
        chosen = metastable_grid(states.values[:, : int(states.count)].cpu(), shape, anchors)
    else:
        assert rank is not None
        chosen = tokenrank_grid(rank, shape, anchors, grid)
    if rank is not None and sort:
        chosen = chosen[rank[chosen].argsort(descending=True, stable=True)]
    return chosen


def uniform_grid(rows: int, columns: int, anchors: int = 16) -> Tensor:
    """Evenly spaced tokens, ``anchors`` along each side, row by row.

    On a side of s tokens with M = min(anchors, s): stride (s − 1) // (M − 1), and what is left is split before and
    after; 64 tokens and 16 anchors give 1, 5, …, 61. One anchor is the middle.

    Returns:
        int64 (M_rows · M_columns,).

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), the authors' code.
    """
    return (_side(rows, anchors)[:, None] * columns + _side(columns, anchors)).flatten()


def tokenrank_grid(
    rank: Tensor, grid: tuple[int, int], anchors: int = 16, how: AnchorGrid = "tokenrank-cells", seed: int = 0
) -> Tensor:
    """As many tokens as the uniform grid has, chosen by TokenRank.

    Args:
        rank: π, (P,).
        grid: (rows, columns) of the picture.
        anchors: along each side.
        how: "tokenrank-top": the largest. "tokenrank-nms": the largest, each at least two tokens or half a stride
            of the uniform grid from those before (rows and columns apart); may be fewer. "tokenrank-sample": drawn
            without replacement, in proportion to π. "tokenrank-cells" (also "tokenrank"): the largest of each cell
            of a grid of ``anchors`` × ``anchors`` cells, so that the whole picture is covered.
        seed: of the drawing.

    Returns:
        int64 indices; "cells" row by row, "sample" as drawn, others by falling π. How the paper chooses its anchors
        is not published in detail; these are the readings to compare.

    Raises:
        InputError: another ``how``.
    """
    rows, columns = grid
    sides = min(_checked(anchors), rows), min(anchors, columns)
    count = sides[0] * sides[1]
    falling = rank.argsort(descending=True, stable=True)
    if how == "tokenrank-top":
        return falling[:count]
    if how == "tokenrank-nms":
        distance = [max(2, round(size / side / 2)) for size, side in zip(grid, sides, strict=True)]
        return _apart(falling, columns, (distance[0], distance[1]), count)
    if how == "tokenrank-sample":
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(rank.double().cpu(), count, generator=generator).to(rank.device)
    if how in ("tokenrank", "tokenrank-cells"):
        return _best_of_cells(rank.reshape(grid), sides)
    raise InputError(f"grid = {how!r}, expected one of {', '.join(get_args(AnchorGrid))}")


def metastable_grid(memberships: Tensor, grid: tuple[int, int], anchors: int = 16) -> Tensor:
    """As many tokens as the uniform grid has, every metastable state the same number of them, spread over it.

    The uniform grid gives a region anchors by its area; this one gives a small state as many as a large one, as far as
    it has tokens (those that belong to it most). One state alone gets about what the uniform grid has.

    Args:
        memberships: χ, (P, K) (``chain.metastable``).
        grid: (rows, columns) of the picture.
        anchors: along each side.

    Returns:
        int64 indices, row by row. In a state they are evenly spaced on a Z-curve, so that no two neighbours on it are
        far apart in the picture.
    """
    left = min(_checked(anchors), grid[0]) * min(anchors, grid[1])
    own, curve = memberships.argmax(-1), _z_curve(*grid)
    states = sorted((curve[own[curve] == state] for state in own.unique().tolist()), key=len)
    chosen = []
    for place, members in enumerate(states):  # the smallest first: what they cannot take is for the others
        share = min(len(members), left // (len(states) - place))
        chosen.append(members[(2 * torch.arange(share) + 1) * len(members) // (2 * max(share, 1))])
        left -= share
    return torch.cat(chosen).sort().values


def _z_curve(rows: int, columns: int) -> Tensor:
    """Tokens in the order of Morton's curve: bits of row and column in turn."""
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    code = torch.zeros(rows, columns, dtype=torch.long)
    for bit in range(max(rows, columns).bit_length()):
        code += ((row >> bit & 1) << (2 * bit + 1)) + ((column >> bit & 1) << (2 * bit))
    return code.flatten().argsort()


def _side(size: int, anchors: int) -> Tensor:
    many = min(_checked(anchors), size)
    if many == 1:
        return torch.tensor([(size - 1) // 2])
    stride = (size - 1) // (many - 1)
    return torch.arange(many) * stride + (size - 1 - stride * (many - 1)) // 2


def _apart(falling: Tensor, columns: int, distance: tuple[int, int], count: int) -> Tensor:
    """The first tokens of which no two are nearer than ``distance`` in rows and columns at once."""
    kept: list[int] = []
    for token in falling.tolist():
        row, column = divmod(token, columns)
        places = (divmod(other, columns) for other in kept)
        if all(abs(row - r) >= distance[0] or abs(column - c) >= distance[1] for r, c in places):
            kept.append(token)
            if len(kept) == count:
                break
    return torch.tensor(kept, device=falling.device)


def _best_of_cells(rank: Tensor, sides: tuple[int, int]) -> Tensor:
    rows, columns = rank.shape
    best = []
    for i in range(sides[0]):
        top, bottom = i * rows // sides[0], (i + 1) * rows // sides[0]
        for j in range(sides[1]):
            left, right = j * columns // sides[1], (j + 1) * columns // sides[1]
            row, column = divmod(int(rank[top:bottom, left:right].argmax()), right - left)
            best.append((top + row) * columns + left + column)
    return torch.tensor(best, device=rank.device)


def _checked(anchors: int) -> int:
    if anchors < 1:
        raise InputError(f"anchors = {anchors}, expected 1 or more along each side")
    return anchors
