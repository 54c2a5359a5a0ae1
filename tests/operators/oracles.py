"""The float64 dense matrices that operators are compared with, written as plainly as possible."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention(
    q: Tensor, k: Tensor, scale: float | None = None, mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """softmax(scale · q kᵀ + mask) in float64, (*batch, N, N); the half-minimum of a dtype is a mask."""
    k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3) if q.ndim > 2 else k
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    logits = scale * (q.double() @ k.double().mT)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.double()
    if is_causal:
        future = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        logits = logits.masked_fill(future, -math.inf)
    return logits.softmax(-1)


def rows_to_one(weights: Tensor) -> Tensor:
    """Weights in float64, each row divided by its sum."""
    weights = weights.double()
    return weights / weights.sum(-1, keepdim=True)


def reverse(a: Tensor) -> Tensor:
    return (a / a.sum(-2, keepdim=True)).mT


def restrict(a: Tensor, keep: Tensor) -> Tensor:
    return rows_to_one(a[..., keep, :][..., :, keep])


def teleport(a: Tensor, alpha: float, jump: Tensor) -> Tensor:
    return alpha * a + (1 - alpha) * jump.double()[..., None, :]


def mix(a: Tensor, weights: Tensor) -> Tensor:
    """Σ_h w_h A_h for a (*batch, H, N, N) and weights (*batch, H)."""
    return (weights.double()[..., None, None] * a).sum(-3)


def lazy(a: Tensor, beta: float) -> Tensor:
    return (1 - beta) * torch.eye(a.shape[-1], dtype=torch.float64) + beta * a


def returns(a: Tensor, keep: Tensor, removed: Tensor) -> Tensor:
    """(I − A_RR)⁻¹ A_RS."""
    inside = a[..., removed, :][..., removed]
    return torch.linalg.solve(torch.eye(len(removed), dtype=torch.float64) - inside, a[..., removed, :][..., keep])


def censor(a: Tensor, keep: Tensor) -> Tensor:
    removed = torch.tensor([i for i in range(a.shape[-1]) if i not in keep.tolist()])
    return a[..., keep, :][..., keep] + a[..., keep, :][..., removed] @ returns(a, keep, removed)


def bipartite(a: Tensor, c: Tensor, step: float) -> Tensor:
    n, m = c.shape[-2:]
    out = torch.zeros(*a.shape[:-2], n + m, n + m, dtype=torch.float64)
    out[..., :n, :n], out[..., :n, n:] = (1 - step) * a, step * c
    out[..., n:, n:] = torch.eye(m, dtype=torch.float64)
    return out
