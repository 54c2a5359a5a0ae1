"""Anchors: the tokens that clustering begins with."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..errors import InputError

AnchorGrid: TypeAlias = Literal[
    "uniform", "tokenrank", "tokenrank-top", "tokenrank-nms", "tokenrank-sample", "tokenrank-cells"
]


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
    sides = min(anchors, rows), min(anchors, columns)
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


def _side(size: int, anchors: int) -> Tensor:
    if anchors < 1:
        raise InputError(f"anchors = {anchors}, expected 1 or more along each side")
    many = min(anchors, size)
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
