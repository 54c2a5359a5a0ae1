"""Reachable tokens: which the walk can get to some others from, exact, from where steps are possible."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...operators import Operator, is_everywhere
from ..engine import constants


def reaches(operator: Operator, targets: Tensor, through: Tensor | None = None) -> Tensor:
    """From which tokens some path leads to each set of targets, bool (*batch, N, T).

    Args:
        operator: A, (*batch, N, N).
        targets: bool (N, T) or (*batch, N, T), a set a column; tokens of a set reach it in no step.
        through: bool (N,) or (*batch, N): tokens that paths may pass through between their first token and
            the set; all by default.

    Breadth-first search from the targets backwards, all sets at once, O(N² T) for each distinct support; at
    once where every step is possible. A softmax counts as positive wherever it is not masked.
    """
    n, count = targets.shape[-2:]
    targets = targets.expand(*operator.batch, n, count)
    support = operator.support()
    if is_everywhere(support):
        return targets.any(-2, keepdim=True).expand(targets.shape).clone()
    through = torch.ones(n, dtype=torch.bool, device=targets.device) if through is None else through
    heads = math.prod(operator.batch)
    sets = targets.reshape(heads, n, count)
    passable = through.expand(*operator.batch, n).reshape(heads, n, 1)
    shared = all(size == 1 or stride == 0 for size, stride in zip(support.shape[:-2], support.stride(), strict=False))
    if shared:  # one support: all heads are columns of one search
        one = support[(0,) * (support.ndim - 2)]
        columns = sets.permute(1, 0, 2).reshape(n, -1)
        allowed = passable.expand(-1, -1, count).permute(1, 0, 2).reshape(n, -1)
        found = _search(one, columns, allowed).reshape(n, heads, count).permute(1, 0, 2)
    else:
        each = support.expand(*operator.batch, n, n)
        places = [torch.unravel_index(torch.tensor(head), operator.batch) for head in range(heads)]
        found = torch.stack([_search(each[p], sets[head], passable[head]) for head, p in enumerate(places)])
    return found.reshape(targets.shape)


def _search(possible: Tensor, targets: Tensor, through: Tensor) -> Tensor:
    """One matrix (N, N), sets (N, T); every token is a frontier of every set once at most."""
    before = possible.mT
    reached, new = targets.clone(), targets
    while not bool(reached.all()):
        frontier = new.any(-1).nonzero()[:, 0]
        if not len(frontier):
            break
        step = torch.zeros_like(reached)
        for part in frontier.split(max(1, constants.GRAPH_ENTRIES // len(possible))):
            # counts of steps stay far below 2²⁴
            step |= before[part].mT.float() @ new[part].float() > 0
        new = step & ~reached
        reached |= new
        new = new & through
    return reached
