"""Is there one stationary vector, or are there many?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..operators import Operator, is_everywhere
from .classes import classes


def closed_classes(operator: Operator) -> Tensor:
    """Number of recurrent classes of every chain of an operator (*batch, N, N), int64 (*batch).

    That of independent stationary vectors; at least 1. Exact, from where steps are possible. Known at once where
    all steps are, in one look where all tokens can go to some one token (whose class is then the only
    recurrent one) and for triangular chains; by depth-first search otherwise (see ``classes``).
    """
    heads, support = math.prod(operator.batch), operator.support()
    one = torch.ones(operator.batch, dtype=torch.int64, device=operator.device)
    if is_everywhere(support):
        return one
    if operator.structure != "full":
        stays = support.sum(-1) == support.diagonal(dim1=-2, dim2=-1)
        return stays.sum(-1).expand(operator.batch).clone()
    known = support.all(-2).any(-1).expand(operator.batch)
    open_heads = (~known).reshape(-1).nonzero()[:, 0]
    if len(open_heads):
        part = operator.reshape(heads).index(open_heads)
        one.view(-1)[open_heads] = classes(part).recurrent_count
    return one


def uniqueness(operator: Operator) -> Tensor:
    """Whether a chain has one stationary vector only: exactly one recurrent class, bool (*batch).

    Without teleport, TokenRank of a chain with several depends on where the walk begins.
    """
    return closed_classes(operator) == 1
