"""Multi-bounce attention: where n steps of the walk lead."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator
from .engine.batching import head_groups


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


FORGOTTEN = 1e-9  # nats; one bounce that tells less tells nothing


def half_life(operator: Operator, start: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first n ≥ 1 with D(n) ≤ D(1) / 2, where D(n) = KL(vᵀAⁿ ‖ uᵀAⁿ) in nats and u is uniform.

    D(n) is what the map after n bounces still tells of having begun in v and not anywhere; it never grows (data
    processing inequality: one chain moves both). Its mean over single-token starts is the mutual information of
    the start and the state after n bounces. Every u_j Aⁿ is at least v_j Aⁿ / (N max v), so D(n) ≤ log(N max v).

    Args:
        operator: (*batch, N, N).
        start: v, (*batch, N), a distribution.
        limit: the last n looked at.

    Returns:
        n (*batch), 1 where one bounce tells nothing (the uniform start, a chain of rank one); whether D(limit) was
        still above half (*batch), n is then ``limit``; and D(0), D(1), … (*batch, …) as far as it was followed.
    """
    n = operator.num_tokens
    v = start.double().expand(operator.shape[:-1]).reshape(-1, n)
    pair = torch.stack([v, torch.full_like(v, 1 / n)], -1)
    groups = list(head_groups(operator, torch.float64))
    curve = [_divergence(pair)]
    while len(curve) <= limit:
        pair = torch.cat([group.rmatmul(pair[heads]) for heads, group in groups])
        curve.append(_divergence(pair))
        if bool(_halved(curve[-1], curve[1]).all()):
            break
    told = torch.stack(curve, -1)
    halved = _halved(told[:, 1:], told[:, 1:2])
    never = ~halved.any(-1)
    steps = torch.where(never, limit, halved.long().argmax(-1) + 1)
    return steps.reshape(operator.batch), never.reshape(operator.batch), told.reshape(*operator.batch, -1)


def _halved(now: Tensor, first: Tensor) -> Tensor:
    return (now <= first / 2) | (first <= FORGOTTEN)


def _divergence(pair: Tensor) -> Tensor:
    """KL(v ‖ u), (h,), of the two columns of (h, N, 2)."""
    v, u = pair.unbind(-1)
    # v log(v/u) − v + u: no term is negative, so that nothing cancels when v and u are almost the same
    ratio = v / u.clamp(min=torch.finfo(v.dtype).tiny)
    return (torch.special.xlogy(v, ratio) - v + u).clamp(min=0).sum(-1)
