"""Hitting times: how many bounces until the walk gets to some tokens, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .absorption import absorption
from .certificate import Certificate
from .result import Result


@dataclass(frozen=True, repr=False)
class HittingTimes(Result):
    """When and whether the walk enters a set of tokens.

    Attributes:
        values: expected bounces until the first token of the set, float64 (*batch, N): 0 on it, inf where
            the walk may miss it.
        probabilities: of ever getting there, (*batch, N): exactly 1 where it surely does, exactly 0 where no path
            leads there.
        certificate: of ``values`` where finite: ``residual`` of t = Qt + 1; ``error_bound`` of the largest error.
        probabilities_certificate: of ``probabilities``.
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1), ("probabilities", -1))
    LABELS = (
        ("values", "bounces until it is entered"),
        ("probabilities", "probability that it is"),
    )

    values: Tensor
    probabilities: Tensor
    certificate: Certificate
    probabilities_certificate: Certificate


def hitting_times(operator: Operator, targets: Tensor, tol: float = 1e-8, max_applies: int = 2000) -> HittingTimes:
    """Expected bounces until the walk first is on one of the tokens ``targets``: t = Qt + 1 outside.

    Args:
        operator: A, (*batch, N, N).
        targets: bool (N,) or (*batch, N).
        tol: bound of the error wanted, relative to the longest time (at least 1), and of the probabilities.
        max_applies: attention applications allowed where the answer is iterated.

    Raises:
        ChainError: targets that are not bool, of another shape, or select no token; effort that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960), theorem 3.3.5. See ``absorption`` for several sets at once.
    """
    n = operator.num_tokens
    if targets.dtype != torch.bool or targets.shape not in ((n,), operator.shape[:-1]):
        raise ChainError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}, expected bool ({n},) or "
            f"{tuple(operator.shape[:-1])}: True on the tokens to be reached"
        )
    found = absorption(operator, targets[..., None], tol, max_applies)
    surely = torch.isfinite(found.steps) | (found.escape == 0)
    return HittingTimes(
        values=found.steps,
        probabilities=torch.where(surely, 1.0, found.values[..., 0]),
        certificate=found.steps_certificate,
        probabilities_certificate=found.certificate,
    )
