"""Absorption: which of several sets of tokens the walk enters first, and after how many bounces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .engine import constants
from .engine.refine import checked_effort
from .engine.transient import solve_transient
from .result import Result
from .support.reachable import reaches


@dataclass(frozen=True, repr=False)
class Absorption(Result):
    """Where walks end that stop on their first token of any of T sets.

    Attributes:
        values: probability of entering each set before any other, float64 (*batch, N, T), 0 … 1. Rows of target tokens
            are unit vectors. Exactly 0 where not ``reachable``; elsewhere positive, save what rounds to 0.
        steps: expected bounces until the walk enters any set, (*batch, N): 0 on targets, inf where it may never do so.
        reachable: bool (*batch, N, T), exact: whether the walk can enter a set before any other.
        unreached: bool (*batch, T): sets that no token outside can get to.
        escape: probability of never entering any set, (*batch, N): exactly 0 where the walk surely ends, exactly 1
            where it cannot, and positive in between.
        certificate: of ``values`` and ``escape``: ``residual`` is that of x = Qx + b and ``error_bound`` bounds
            the largest error of an entry.
        steps_certificate: the same for the finite ``steps``.
    """

    AXES = ("token", "target")
    OVER_TOKENS = (("values", -2), ("steps", -1), ("reachable", -2), ("escape", -1))
    LABELS = (
        ("values", "probability of ending there"),
        ("steps", "bounces until then"),
        ("reachable", "can be reached"),
        ("unreached", "reached by no other token"),
        ("escape", "probability of never ending"),
    )

    values: Tensor
    steps: Tensor
    reachable: Tensor
    unreached: Tensor
    escape: Tensor
    certificate: Certificate
    steps_certificate: Certificate


def absorption(operator: Operator, targets: Tensor, tol: float = 1e-8, max_applies: int = 2000) -> Absorption:
    """Probabilities of entering each of T disjoint sets of tokens first: x_t = Q x_t + A 1_t.

    Args:
        operator: A, (*batch, N, N).
        targets: bool (N, T) or (*batch, N, T), a set a column. What its own tokens do next does not matter: they
            absorb.
        tol: bound wanted, of the error of probabilities, and of that of steps relative to the longest.
        max_applies: attention applications allowed for each 16 columns that are iterated.

    Q is A among the tokens that are in no set but can get to one. The solution is the smallest one ≥ 0: tokens from
    which the walk cannot get to any set count as caught (probability 0, whatever loops they are in), which is read
    from where steps are possible and not from numbers. ``steps`` solves t = Qt + 1.

    Raises:
        ChainError: targets of another dtype or shape, an empty set, or a token in two sets; a tolerance or a
            number of applies that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960), theorems 3.3.5 and 3.3.7; see ``solve_transient``.
    """
    targets = _checked_sets(operator, targets)
    checked_effort(tol, max_applies)
    ending = targets.any(-1)
    reachable = reaches(operator, targets, ~ending)
    caught = ~reachable.any(-1)
    alive = ~ending & ~caught
    into, misses = targets, caught
    if bool(caught.any()):
        misses = reaches(operator, caught[..., None], ~ending)[..., 0] & ~ending
        into = torch.cat([targets, caught[..., None]], -1)
    solved = solve_transient(operator, alive, into.double(), tol, max_applies, entering=True)
    count = targets.shape[-1]
    # clamping brings no answer further from the exact one
    found = solved.values.clamp(0, 1)
    probabilities = torch.where(ending[..., None], targets.double(), found[..., :count])
    escape = torch.zeros_like(solved.times)
    if bool(caught.any()):
        escape = torch.where(caught, 1.0, torch.where(misses, found[..., count].clamp(min=constants.TINY), 0.0))
    longest = torch.where(torch.isfinite(solved.times), solved.times, 0.0).amax(-1)
    return Absorption(
        values=torch.where(reachable, probabilities, 0.0),
        steps=torch.where(misses, torch.inf, solved.times),
        reachable=reachable,
        unreached=~(reachable & ~ending[..., None]).any(-2),
        escape=escape,
        certificate=solved.certificate.beyond(1.0),
        steps_certificate=solved.times_certificate.beyond(longest.clamp(min=constants.TINY)),
    )


def _checked_sets(operator: Operator, targets: Tensor) -> Tensor:
    """The sets, bool (*batch, N, T)."""
    n = operator.num_tokens
    if targets.dtype != torch.bool:
        raise ChainError(f"targets are {targets.dtype}, expected bool (N, T): True where a token is in a set")
    if targets.ndim < 2 or targets.shape[-2] != n or targets.shape[:-2] not in ((), operator.batch):
        raise ChainError(
            f"targets have shape {tuple(targets.shape)}, expected ({n}, T) or {(*operator.batch, n, 'T')}: one column "
            "for each set of tokens"
        )
    if not targets.shape[-1]:
        raise ChainError("no target given, expected at least one set of tokens")
    targets = targets.to(operator.device)
    empty = (~targets.any(-2)).nonzero()
    if len(empty):
        raise ChainError(f"target {int(empty[0, -1])} has no tokens, expected at least one in every set")
    shared = (targets.sum(-1) > 1).nonzero()
    if len(shared):
        *_, token = place = shared[0].tolist()
        sets = targets[tuple(place)].nonzero()[:, 0].tolist()
        raise ChainError(
            f"token {token} is in targets {sets[0]} and {sets[1]}, expected disjoint sets: the walk can enter one "
            "first only; take the token out of one of them, or ask for the sets one by one with hitting_times"
        )
    return targets.expand(*operator.batch, *targets.shape[-2:])
