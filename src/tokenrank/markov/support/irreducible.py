"""Recurrent classes: how many there are, whether there is only one, and a token of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import ChainError
from ...operators import Operator, is_everywhere
from ..classes import classes


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


def require_unique(operator: Operator, what: str) -> None:
    """Raise ChainError, naming the chain, unless every chain has one recurrent class only."""
    count = closed_classes(operator)
    if bool((count > 1).any()):
        chain = (count > 1).nonzero()[0].tolist()
        raise ChainError(
            f"chain {chain} has {int(count[tuple(chain)])} recurrent classes, so that its stationary distribution is "
            f"not unique and {what} depends on where the walk begins; expected one class: teleport first "
            "(chain.teleport(0.99)), or restrict the chain to one of chain.classes()"
        )


def home(operator: Operator) -> Tensor:
    """For every chain (one recurrent class each) a recurrent token that is attended to much, (*batch).

    Of the recurrent tokens the one with the largest column sum.
    """
    sums = operator.column_sums(torch.float64)
    return torch.where(classes(operator).recurrent_tokens, sums, -1.0).argmax(-1)
