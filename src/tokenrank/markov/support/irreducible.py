"""Recurrent classes: how many there are, whether there is only one, and a token of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...errors import ChainError, which_chain
from ...operators import Operator, is_everywhere
from ..engine import constants
from .communicating import graphs

SOON = 4  # steps in which tokens of one class are to lead to one another


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
        leading, parts = graphs(operator.reshape(heads).index(open_heads))
        counts = torch.tensor([int(part.recurrent.sum()) for part in parts], device=operator.device)
        one.view(-1)[open_heads] = counts.reshape(leading).expand(len(open_heads))
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
            f"{which_chain(chain, count.shape)} has {int(count[tuple(chain)])} recurrent classes, so that its "
            f"stationary distribution is not unique and {what} depends on where the walk begins; expected one class: "
            "teleport first (chain.teleport(0.99)), or restrict the chain to one of chain.classes()"
        )


def recurrent_token(operator: Operator) -> Tensor:
    """For every chain (one recurrent class each) a token that every walk comes back to, (*batch).

    Of the recurrent tokens the one that is attended to most: the largest column sum.
    """
    leading, parts = graphs(operator)
    recurrent = torch.from_numpy(np.stack([part.recurrent[part.labels] for part in parts])).to(operator.device)
    recurrent = recurrent.reshape(*leading, operator.num_tokens).expand(operator.shape[:-1])
    return torch.where(recurrent, operator.column_sums(torch.float64), -1.0).argmax(-1)


def connected_soon(support: Tensor) -> Tensor:
    """Whether all tokens of chains (h, N, N) form one aperiodic class, as far as a few steps tell, bool (h,).

    Where a token leads to all others, and they to it, within ``SOON`` steps, and some token may stay. False says
    nothing. Nothing is waited for: breadth-first search in whole rows, a few chains at a time.
    """
    n, found = support.shape[-1], []
    for some in support.split(max(1, constants.CONNECTED_ENTRIES // (n * n))):
        start = torch.zeros(some.shape[:-1], dtype=torch.bool, device=some.device)
        start[:, 0] = True
        onward, back = start, start
        for _ in range(SOON):
            onward = onward | (some & onward[:, :, None]).any(-2)
            back = back | (some & back[:, None]).any(-1)
        stays = some.diagonal(dim1=-2, dim2=-1).any(-1)
        found.append(onward.all(-1) & back.all(-1) & stays)
    return torch.cat(found)
