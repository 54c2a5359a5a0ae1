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
