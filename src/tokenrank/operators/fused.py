"""Attention through ``scaled_dot_product_attention``: never an N × N matrix.

The flash kernels ask for four dimensions and, on CPU, for one width of q, k and v; otherwise
PyTorch falls back to a kernel that materialises the weights. Everything here keeps to that.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_COLUMNS = 128  # columns of v carried by one call


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None, is_causal: bool) -> Tensor:
    """softmax(scale · q kᵀ + mask) v.

    q (*batch, N, d), k (*batch, M, d), v (*batch, M, c), mask broadcastable to (*batch, N, M);
    returns (*batch, N, c).
    """
    batch, (n, d), c = q.shape[:-2], q.shape[-2:], v.shape[-1]
    if c > max(d, MAX_COLUMNS):
        parts = [attend(q, k, part, scale, mask, is_causal) for part in v.split(MAX_COLUMNS, -1)]
        return torch.cat(parts, -1)
    width = max(d, c)
    q4, k4, v4 = (_four_dims(F.pad(t, (0, width - t.shape[-1]))) for t in (q, k, v.expand(*batch, -1, -1)))
    mask4 = None if mask is None else _mask_four_dims(mask, batch)
    out = F.scaled_dot_product_attention(q4, k4, v4, mask4, is_causal=is_causal, scale=scale)
    return out[..., :c].reshape(*batch, n, c)


def log_normaliser(q: Tensor, k: Tensor, scale: float, is_causal: bool) -> Tensor:
    """log Σ_j exp(scale · q_i·k_j), (*batch, N), from public calls alone; q, k (*batch, N, d).

    One null key with logit b and value one is put in front: its probability is
    p = eᵇ / (Z + eᵇ), hence log Z = b + log(1 − p) − log p. b starts as the token's logit with
    itself, which is at most log Z, so that p ≤ ½; where p underflows b is raised and the call
    repeated.
    """
    n = q.shape[-2]
    tiny = torch.finfo(q.dtype).tiny
    logit = scale * (q * k).sum(-1)
    k_null = F.pad(k, (0, 1, 1, 0))
    k_null[..., 0, -1] = 1.0
    value = torch.zeros(n + 1, 1, dtype=q.dtype, device=q.device)
    value[0] = 1.0
    result = torch.zeros_like(logit)
    pending = torch.ones_like(logit, dtype=torch.bool)
    while True:
        q_null = torch.cat([q, logit[..., None] / scale], -1)
        if is_causal:  # the null query in front keeps the diagonal where it was
            q_null = F.pad(q_null, (0, 0, 1, 0))
        p = attend(q_null, k_null, value.expand(*k.shape[:-2], -1, -1), scale, None, is_causal)
        p = p[..., -n:, 0]
        found = pending & (p > tiny)
        result = torch.where(found, logit + torch.log1p(-p) - p.log(), result)
        pending = pending & ~found
        if not pending.any():
            return result
        logit = torch.where(pending, logit - 0.8 * math.log(tiny), logit)


def _four_dims(x: Tensor) -> Tensor:
    while x.ndim < 4:
        x = x[None]
    return x.flatten(0, -4) if x.ndim > 4 else x


def _mask_four_dims(mask: Tensor, batch: torch.Size) -> Tensor:
    while mask.ndim < 2 + len(batch):
        mask = mask[None]
    if len(batch) > 2 and math.prod(mask.shape[: len(batch) - 1]) > 1:
        mask = mask.expand(*batch[:-1], *mask.shape[-3:])
    return _four_dims(mask)
