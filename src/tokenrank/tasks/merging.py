"""Merging of attention maps that say the same, as in DiffSeg, and the anchors that it begins with."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..errors import InputError

FLOOR = 1e-20  # probabilities below count as this much, so that a masked token makes no distance infinite
SHARE = 0.05  # of the pairs of anchors that "auto" calls the same
SMALLEST = 1e-9  # of distances that "auto" gives


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """½ [KL(p‖q) + KL(q‖p)] = ½ Σ (p − q)(log p − log q) of all pairs, float64.

    Args:
        p: (M, N) and q: (K, N), rows are distributions; entries below 1e-20 count as 1e-20.

    Returns:
        (M, K), ≥ 0.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), the distance of attention maps.
    """
    p, q = p.double().clamp(min=FLOOR), q.double().clamp(min=FLOOR)
    log_p, log_q = p.log(), q.log()
    own = (p * log_p).sum(-1)[:, None] + (q * log_q).sum(-1)
    return (0.5 * (own - p @ log_q.mT - log_p @ q.mT)).clamp(min=0)


def merge(maps: Tensor, anchors: Tensor, tau: float, iterations: int = 3) -> Tensor:
    """Proposals of segments from anchors' attention maps.

    The first iteration replaces each anchor's map by the mean of all maps closer than ``tau``. Each further one goes
    through the proposals in order: one that was not yet absorbed absorbs all that are closer than ``tau`` and
    becomes their mean. What was absorbed before can be averaged in again, so the answer depends on the order of the
    anchors; sort them by what should count (``cluster`` can sort by TokenRank).

    Args:
        maps: (N, P), rows are distributions over P tokens.
        anchors: int64 (M,), rows to begin with, in order.
        tau: distance below which two maps say the same.
        iterations: 1 or more.

    Returns:
        (K ≤ M, P) float64 proposals, rows are distributions.

    Raises:
        InputError: no anchor, or iterations below 1, or a tau that is not positive.

    Source: Tian et al. (CVPR 2024), iterative attention merging; the order as in the authors' code.
    """
    if iterations < 1 or not tau > 0 or not len(anchors):
        raise InputError(
            f"{len(anchors)} anchors, tau = {tau!r}, iterations = {iterations!r}; expected one anchor at least, a "
            "positive distance and one iteration at least"
        )
    maps = maps.double()
    near = (symmetric_kl(maps[anchors], maps) < tau).double()
    proposals = near @ maps / near.sum(-1, keepdim=True)
    for _ in range(iterations - 1):
        proposals = absorbed(proposals, tau)
    return proposals


def absorbed(proposals: Tensor, tau: float) -> Tensor:
    """One round of merging: (M, P) → (K ≤ M, P); see ``merge``."""
    near = symmetric_kl(proposals, proposals) < tau
    near.fill_diagonal_(True)
    taken = torch.zeros(len(proposals), dtype=torch.bool, device=proposals.device)
    means = []
    for i in range(len(proposals)):
        if not bool(taken[i]):
            taken |= near[i]
            means.append(proposals[near[i]].mean(0))
    return torch.stack(means)


def auto_tau(maps: Tensor, anchors: Tensor) -> float:
    """A distance from the picture itself: the one that a twentieth of all pairs of anchors keep below.

    The scale of distances differs by layer, model and number of tokens, this share less: eight segments of the four
    photographs at 192 pixels are 8 to 19 % of the pairs in layers 7 and 9 of the bundled network, 12 to 42 % in its
    last layer, and were 3 to 9 % in a network of six layers that knew no objects. So a twentieth gives more segments
    than eight; ask for ``k`` where their number is known. At least 1e-9, so that equal maps merge. The paper has fixed
    values.
    """
    i, j = torch.triu_indices(len(anchors), len(anchors), 1)
    values = symmetric_kl(maps[anchors], maps[anchors])[i, j].sort().values
    return max(float(values[int(SHARE * len(values))]), SMALLEST) if len(values) else SMALLEST


def tau_for(maps: Tensor, anchors: Tensor, k: int, iterations: int = 3, rounds: int = 24) -> float:
    """A distance at which merging leaves k proposals, or as close to k as bisection gets, fewer before more.

    The number of proposals falls with the distance, but not strictly: where k is skipped the nearest number met on
    the way is taken.

    Raises:
        InputError: k below 1.
    """
    if isinstance(k, bool) or k < 1:
        raise InputError(f"k = {k!r} segments, expected a whole number from 1")
    distances = symmetric_kl(maps[anchors], maps[anchors])
    low, high = 0.0, 2 * float(distances.max()) + 1e-9
    best = (len(anchors) + 1, True, high)
    for _ in range(rounds):
        tau = (low + high) / 2
        left = len(merge(maps, anchors, tau, iterations))
        best = min(best, (abs(left - k), left > k, tau))
        if left == k:
            break
        low, high = (tau, high) if left > k else (low, tau)
    return best[2]


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
