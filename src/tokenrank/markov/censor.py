"""Censored chains: watching a walk only while it is on some of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ChainError, which_chain
from ..operators import Censored, Operator
from ..operators.restricted import returns_error
from .engine import constants
from .engine.batching import rows_of
from .engine.elimination import eliminate
from .support.reachable import reaches

LOST = 1e-6  # probability of never coming back that rounding does not explain
NEGLIGIBLE = 1e-13  # what lost steps may change an entry by, relatively, without being followed


def censor(operator: Operator, keep: Tensor) -> Censored:
    """The stochastic complement of the tokens ``keep``: A_SS + A_SR (I − A_RR)⁻¹ A_RS.

    Args:
        operator: A, (*batch, N, N).
        keep: S, increasing token indices, (M,).

    W = (I − A_RR)⁻¹ A_RS is computed once, by elimination without subtractions, accurate entry by entry; its rows
    are divided by their sums, which differ from one by rounding. O(N r) memory and r² N operations for r removed
    tokens. An apply then costs one of the whole chain.

    Rows of W for removed tokens that no kept token gets to are not needed; those from which the walk does not come
    back are zero.

    Raises:
        ChainError: indices that are not increasing, or a removed token that the walk gets to and may not come
            back from: the first token of a causal chain, for example, which attends to itself alone.

    Source: Meyer, "Stochastic complementation, uncoupling Markov chains, and the theory of nearly
    reducible systems" (1989).
    """
    n = operator.num_tokens
    _check(keep, n)
    gone = torch.ones(n, dtype=torch.bool, device=operator.device)
    gone[keep] = False
    removed = gone.nonzero()[:, 0]
    rows = rows_of(operator, removed)
    back = rows.index_select(-1, keep)
    returns = eliminate(rows.index_select(-1, removed), back.sum(-1), back)
    mass = returns.sum(-1)
    lost = _lost(operator, keep, gone).index_select(-1, removed)
    bad = lost | ((mass - 1).abs() > LOST)
    if bool(bad.any()):  # only then does it matter, and an apply is spent, whether the walk gets there at all
        bad = bad & _entered(operator, keep).index_select(-1, removed)
    if bool(bad.any()):
        *chain, place = bad.nonzero()[mass[bad].argmin()].tolist()
        raise ChainError(
            f"token {int(removed[place])} of {which_chain(chain, operator.batch)} is removed, and the walk comes back "
            f"from it with probability {float(mass[(*chain, place)]):.6g} only, expected 1: it may be caught among the "
            "removed tokens; keep one of them, or teleport first: chain.teleport(0.99).restrict(..., how='censor')"
        )
    returns = returns / torch.where(mass > 0, mass, 1.0)[..., None]
    error = operator.entry_error(torch.float64)
    if not len(removed) or not bool((error > 0).any()):  # stored weights are what they are
        return Censored(operator, keep, removed, returns)
    ends = torch.eye(n, dtype=torch.bool, device=operator.device)[:, keep]
    arrives = reaches(operator, ends, gone).index_select(-2, removed)
    error = returns_error(len(removed), error) + _lost_steps(operator, removed, rows, back, mass)
    return Censored(operator, keep, removed, returns, error, arrives)


def _lost_steps(operator: Operator, removed: Tensor, rows: Tensor, back: Tensor, mass: Tensor) -> Tensor:
    """What steps of removed tokens that are no numbers in float64 add to the relative error of W, (*batch,).

    A walk on t removed tokens takes one of them with probability N t ``constants.TINY`` at most, which is little beside
    an entry above ``constants.LOST`` unless t is large. inf where it may matter.
    """
    possible = operator.support().index_select(-2, removed)
    missing = ((rows < constants.LOST) & possible).any(-1).any(-1)
    if not bool(missing.any()):
        return torch.zeros_like(missing, dtype=mass.dtype)
    ones = torch.ones_like(mass)[..., None]
    times = eliminate(rows.index_select(-1, removed), back.sum(-1), ones)[..., 0]
    longest = torch.where(mass > 0, times, 0.0).amax(-1)
    little = 2 * operator.num_tokens * constants.TINY * (1 + longest) <= NEGLIGIBLE * constants.LOST
    return torch.where(missing, torch.where(little, 2 * NEGLIGIBLE, torch.inf), 0.0)


def _check(keep: Tensor, n: int) -> None:
    if not len(keep) or keep[0] < 0 or keep[-1] >= n or bool((keep[1:] <= keep[:-1]).any()):
        raise ChainError(
            f"keep = {keep[:8].tolist()}{' …' if len(keep) > 8 else ''}, expected at least one index, increasing, "
            f"from 0 to {n - 1}"
        )


def _lost(operator: Operator, keep: Tensor, gone: Tensor) -> Tensor:
    """The removed tokens from which the walk may get caught among removed ones, bool (*batch, N), exact."""
    kept = ~gone[:, None]
    caught = ~reaches(operator, kept, gone)
    return reaches(operator, caught, gone)[..., 0] & gone


def _entered(operator: Operator, keep: Tensor) -> Tensor:
    """The tokens that some kept token can go to, bool (*batch, N)."""
    start = torch.zeros(operator.num_tokens, dtype=torch.float64, device=operator.device)
    start[keep] = 1
    return operator.T @ start.expand(operator.shape[:-1]) > 0
