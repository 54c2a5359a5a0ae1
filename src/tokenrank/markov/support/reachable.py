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
    alike = targets.ndim == 2 and (through is None or through.ndim == 1)  # one search where the support is, too
    targets = targets.expand(*operator.batch, n, count)
    support = operator.support()
    if is_everywhere(support) or bool(support.all()):
        return targets.any(-2, keepdim=True).expand(targets.shape).clone()
    through = torch.ones(n, dtype=torch.bool, device=targets.device) if through is None else through
    heads = math.prod(operator.batch)
    sets = targets.reshape(heads, n, count)
    passable = through.expand(*operator.batch, n).reshape(heads, n, 1)
    shared = all(size == 1 or stride == 0 for size, stride in zip(support.shape[:-2], support.stride(), strict=False))
    if shared:  # one support: all heads are columns of one search
        one = support[(0,) * (support.ndim - 2)]
        if alike and heads:
            return _search(one, sets[0], passable[0]).expand(targets.shape).clone()
        columns = sets.permute(1, 0, 2).reshape(n, -1)
        allowed = passable.expand(-1, -1, count).permute(1, 0, 2).reshape(n, -1)
        found = _search(one, columns, allowed).reshape(n, heads, count).permute(1, 0, 2)
    else:
        each = support.expand(*operator.batch, n, n)
        places = [torch.unravel_index(torch.tensor(head), operator.batch) for head in range(heads)]
        found = torch.stack([_search(each[p], sets[head], passable[head]) for head, p in enumerate(places)])
    return found.reshape(targets.shape)


SPARSE = 16  # a matrix with one step in so many, or fewer, is multiplied as a sparse one


def misses(possible: Tensor, targets: Tensor) -> Tensor:
    """From which tokens the walk may miss each of the targets, indices (T,), by its possible steps (N, N), bool (N, T).

    From those a path leads, not by way of the target, to a token from which none leads to it. Never from the target.
    """
    at_target = torch.zeros(len(possible), len(targets), dtype=torch.bool, device=possible.device)
    at_target[targets, torch.arange(len(targets), device=possible.device)] = True
    if is_everywhere(possible) or bool(possible.all()):
        return torch.zeros_like(at_target)
    caught = ~_search(possible, at_target, torch.ones_like(at_target))
    return _search(possible, caught, ~at_target) & ~at_target


def _search(possible: Tensor, targets: Tensor, through: Tensor) -> Tensor:
    """One matrix (N, N), sets (N, T); every token is a frontier of every set once at most."""
    few = int(possible.count_nonzero()) * SPARSE < possible.numel()
    sparse = possible.to_sparse().float() if few else None
    reached, new = targets.clone(), targets
    while not bool(reached.all()):
        frontier = new.any(-1).nonzero()[:, 0]
        if not len(frontier):
            break
        # counts of steps stay far below 2²⁴
        if sparse is not None:
            step = sparse @ new.float() > 0
        else:
            step = torch.zeros_like(reached)
            for part in frontier.split(max(1, constants.GRAPH_ENTRIES // len(possible))):
                step |= possible[:, part].float() @ new[part].float() > 0
        new = step & ~reached
        reached |= new
        new = new & through
    return reached
