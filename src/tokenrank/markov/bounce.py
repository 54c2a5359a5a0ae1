"""Multi-bounce attention: where n steps of the walk lead."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator


def bounce(operator: Operator, start: Tensor, n: int) -> Tensor:
    """vᵀAᵏ for k = 0 … n, stacked in front: (n + 1, *batch, N).

    ``start`` (*batch, N) is v, a distribution over tokens. k = 1 from a single token is that
    token's row of A; k = 1 from the uniform distribution is the column sum over N; the limit
    is TokenRank ("Attention (as Discrete-Time Markov) Chains", multi-bounce attention).
    """
    steps = [start]
    for _ in range(n):
        steps.append(operator.rmatmul(steps[-1][..., None])[..., 0])
    return torch.stack(steps)
