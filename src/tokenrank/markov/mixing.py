"""How many bounces until the start does not matter any more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator, Product
from .batching import head_groups
from .dobrushin import dobrushin, doeblin
from .lambda2 import lambda2

EXACT = 512  # tokens up to which powers are formed
PAIRS = 2048  # and up to which all pairs of rows are compared
DOUBLINGS = 40  # a chain that has not mixed after 2⁴⁰ bounces counts as one that never does
POWERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class MixingTime:
    """Bounds of t_mix(ε), and t_mix itself where it could be had.

    Attributes:
        lower, upper: proved bounds, float64 (*batch); the upper one inf where nothing could be proved.
        exact: t_mix(ε), (*batch), up to 512 tokens: inf for chains that never mix (periodic or reducible) or not within
            2⁴⁰ bounces; None beyond.
        relaxation: 1 / (1 − |λ₂|), (*batch).
        epsilon: the distance in total variation.
    """

    lower: Tensor
    upper: Tensor
    exact: Tensor | None
    relaxation: Tensor
    epsilon: float


def mixing_time(operator: Operator, epsilon: float = 0.25) -> MixingTime:
    """t_mix(ε): the first n with max_i ½ ‖(Aⁿ)_i − π‖₁ ≤ ε.

    Lower bound: for an eigenvalue λ ≠ 1 with vector f, |f| ≤ 1, |λ|ⁿ |f_i| = |Σ_j ((Aⁿ)_ij − π_j) f_j| ≤ 2 d(n) at the
    token with |f_i| = 1; hence n ≥ log(1/2ε) / log(1/|λ₂|), whether the chain is reversible or not. Upper bound: d(n) ≤ δ(Aⁿ), and
    δ(A^{st}) ≤ δ(Aˢ)ᵗ with Dobrushin's coefficient (Doeblin's bound of it beyond 2,048 tokens), for s = 1, 2, 4, 8.

    Raises:
        ChainError: ε not in (0, ½).

    Source: Levin, Peres and Wilmer, "Markov Chains and Mixing Times", sections 4.4 and 12.2.
    """
    if not 0 < epsilon < 0.5:
        raise ChainError(f"epsilon = {epsilon!r}, expected a distance above 0 and below ½, such as 0.25")
    modulus = lambda2(operator).values.double()
    lower = math.log(1 / (2 * epsilon)) / modulus.log().abs()
    lower = torch.where(modulus > 0, lower, 0.0)
    if operator.num_tokens <= EXACT:
        exact = torch.cat([_exact(g.to_dense(torch.float64), epsilon) for _, g in head_groups(operator, torch.float64)])
        exact = exact.reshape(operator.batch)
        return MixingTime(torch.minimum(lower, exact), exact, exact, 1 / (1 - modulus).clamp(min=0), epsilon)
    upper = torch.full_like(lower, torch.inf)
    contraction = dobrushin if operator.num_tokens <= PAIRS else doeblin
    for power in POWERS:
        delta = contraction(Product([operator] * power))
        steps = torch.where(delta > 0, (math.log(1 / epsilon) / delta.log().abs()).ceil(), 1.0).clamp(min=1)
        upper = torch.minimum(upper, torch.where(delta < 1, power * steps, torch.inf))
    return MixingTime(lower, upper, None, 1 / (1 - modulus).clamp(min=0), epsilon)


def _exact(a: Tensor, epsilon: float) -> Tensor:
    """t_mix of dense chains (h, N, N), by doubling and halving; the distance never grows."""
    powers = [a]
    while len(powers) <= DOUBLINGS and bool((_spread(powers[-1]) > epsilon / 4).any()):
        square = powers[-1] @ powers[-1]
        powers.append(square / square.sum(-1, keepdim=True))
    limit = powers[-1].mean(-2, keepdim=True)
    mixed = _spread(powers[-1]) <= epsilon / 4
    # the largest n that has not mixed, bit by bit
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    reached, steps = eye.expand_as(a), torch.zeros(len(a), dtype=torch.float64, device=a.device)
    for bit in reversed(range(len(powers))):
        further = reached @ powers[bit]
        open_still = 0.5 * (further - limit).abs().sum(-1).amax(-1) > epsilon
        reached = torch.where(open_still[:, None, None], further, reached)
        steps = steps + open_still * 2.0**bit
    start_mixed = 0.5 * (eye - limit).abs().sum(-1).amax(-1) <= epsilon
    steps = torch.where(start_mixed, 0.0, steps + 1)
    return torch.where(mixed, steps, torch.inf)


def _spread(a: Tensor) -> Tensor:
    """An upper bound of the distance of any two rows in total variation, within a factor of two, (h,)."""
    return (a - a[:, :1]).abs().sum(-1).amax(-1)
