"""Entropy rate: how uncertain the next bounce is, in the long run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..operators import Operator
from .certificate import Certificate
from .result import Result
from .stationary_distributions import stationary_distributions
from .support.irreducible import require_unique


@dataclass(frozen=True, repr=False)
class EntropyRate(Result):
    """Entropy rate of every chain.

    Attributes:
        values: −Σ_i π_i Σ_j A_ij log A_ij in nats, float64 (*batch): 0 … log N.
        stationary: π, (*batch, N), that rows were weighted with.
        certificate: of π: ``residual`` is ‖πᵀA − πᵀ‖₁; no error bound, since that of π is none of the rate.
    """

    OVER_TOKENS = (("stationary", -1),)
    LABELS = (
        ("values", "nats a bounce"),
        ("stationary", "π"),
    )

    values: Tensor
    stationary: Tensor
    certificate: Certificate


def entropy_rate(operator: Operator, tol: float = 1e-10, max_applies: int = 5000) -> EntropyRate:
    """−Σ_i π_i Σ_j A_ij log A_ij in nats: the information of one bounce of the stationary walk.

    Args:
        operator: A, (*batch, N, N), one recurrent class a chain; no teleport is added.
        tol: residual of π wanted.
        max_applies: attention applications allowed for π.

    Divide by log 2 for bits. Rows of the recurrent class alone count; a causal chain, which ends at its first token,
    has entropy rate 0.

    Raises:
        ChainError: a chain with several recurrent classes, by number; effort that is not positive.

    Source: Cover and Thomas, "Elements of Information Theory" (2006), theorem 4.2.4.
    """
    require_unique(operator, "the entropy rate")
    found = stationary_distributions(operator, tol, max_applies)
    pi = found.values[..., 0, :]
    values = (pi * operator.row_entropies(torch.float64)).sum(-1).clamp(min=0)
    return EntropyRate(values, pi, replace(found.certificate[..., 0], error_bound=None))
