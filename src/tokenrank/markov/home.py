"""A token that every walk comes back to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .classes import classes
from .uniqueness import closed_classes


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
