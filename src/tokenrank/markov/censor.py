"""Watching a chain only while it is on some of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Censored, Operator
from .elimination import eliminate

ROWS = 128  # rows of the removed tokens read at a time


def censor(operator: Operator, keep: Tensor) -> Censored:
    """The stochastic complement of the tokens ``keep``: A_SS + A_SR (I − A_RR)⁻¹ A_RS.

    Args:
        operator: A, (*batch, N, N).
        keep: S, increasing token indices, (M,).

    W = (I − A_RR)⁻¹ A_RS is computed once, by elimination without subtractions, accurate entry by entry; O(N · r)
    memory and r² N operations for r removed tokens. An apply then costs one of the whole chain.

    Raises:
        ChainError: a removed token that the walk never comes back from: the first token of a causal chain, for
            example, which attends to itself alone.

    Source: Meyer, "Stochastic complementation, uncoupling Markov chains, and the theory of nearly
    reducible systems" (1989).
    """
    gone = torch.ones(operator.num_tokens, dtype=torch.bool, device=operator.device)
    gone[keep] = False
    removed = gone.nonzero()[:, 0]
    rows = _rows(operator, removed)
    back = rows.index_select(-1, keep)
    returns = eliminate(rows.index_select(-1, removed), back.sum(-1), back)
    mass = returns.sum(-1)
    # a token comes back surely or is caught somewhere; rounding aside there is nothing in between
    lost = ((mass - 1).abs() > 1e-9) & _entered(operator, keep).index_select(-1, removed)
    if bool(lost.any()):
        place = lost.nonzero()[mass[lost].argmin()].tolist()
        raise ChainError(
            f"token {int(removed[place[-1]])} (chain {place[:-1]}) is removed, and the walk comes back from it with "
            f"probability {float(mass[tuple(place)]):.3g} only, expected 1: it is caught among those removed; keep "
            "one of them, or teleport first: chain.teleport(0.99).restrict(..., how='censor')"
        )
    return Censored(operator, keep, removed, returns / torch.where(mass > 0, mass, 1.0)[..., None])


def _entered(operator: Operator, keep: Tensor) -> Tensor:
    """The tokens that some kept token can go to, bool (*batch, N)."""
    start = torch.zeros(operator.num_tokens, 1, dtype=torch.float64, device=operator.device)
    start[keep] = 1
    return operator.rmatmul(start.expand(*operator.batch, -1, -1))[..., 0] > 0


def _rows(operator: Operator, tokens: Tensor) -> Tensor:
    """Rows of A for scattered tokens, (*batch, r, N) in float64."""
    parts = []
    for some in tokens.split(ROWS):
        units = torch.zeros(operator.num_tokens, len(some), dtype=torch.float64, device=operator.device)
        units[some, torch.arange(len(some), device=operator.device)] = 1
        parts.append(operator.rmatmul(units.expand(*operator.batch, -1, -1)).mT)
    if not parts:
        shape = (*operator.batch, 0, operator.num_tokens)
        return torch.zeros(shape, dtype=torch.float64, device=operator.device)
    return torch.cat(parts, -2)
