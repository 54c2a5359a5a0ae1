"""The two calls that a matrix-free chain is made of: a fused softmax times values, and the logarithm of its sums."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Structure

MASKED = -1e30  # the logit of a key that nobody may attend to: zero after any softmax, finite in products
MAX_COLUMNS = 128  # columns of v carried by one call


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None, triangle: Structure = "full"
) -> Tensor:
    """softmax(scale · q kᵀ + mask) v.

    q (*batch, N, d), k (*batch, M, d), v (*batch, M, c), mask broadcastable to (*batch, N, M);
    returns (*batch, N, c). With "lower" token i attends to tokens 0 … i, with "upper" to i … N − 1, of as many keys
    as queries and without a mask.
    """
    if triangle == "upper":  # the fused call knows one triangle
        return attend(q.flip(-2), k.flip(-2), v.flip(-2), scale, None, "lower").flip(-2)
    batch, (n, d), c = q.shape[:-2], q.shape[-2:], v.shape[-1]
    if c > max(d, MAX_COLUMNS):
        parts = [attend(q, k, part, scale, mask, triangle) for part in v.split(MAX_COLUMNS, -1)]
        return torch.cat(parts, -1)
    width = max(d, c)
    q4, k4, v4 = (_four_dims(F.pad(t, (0, width - t.shape[-1]))) for t in (q, k, v.expand(*batch, -1, -1)))
    mask4 = None if mask is None else _mask_four_dims(mask, batch)
    out = F.scaled_dot_product_attention(q4, k4, v4, mask4, is_causal=triangle == "lower", scale=scale)
    return out[..., :c].reshape(*batch, n, c)


def log_sums(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, triangle: Structure, below: Tensor) -> Tensor:
    """log Σ_j exp(scale · q_i·k_j + bias_j), (*batch, N), from a public call alone; q, k (*batch, N, d).

    A null key with logit b takes the probability p = eᵇ / (Z + eᵇ), hence log Z = b + log(1 − p) − log p. b is
    ``below``, (*batch, N): not above log Z by more than its rounding, so that p is at most about ½, and not so far
    below that p underflows. The mean logit, log Z less an entropy, is within log N of it.
    """
    if triangle == "upper":
        turned = None if bias is None else bias.flip(-1)
        return log_sums(q.flip(-2), k.flip(-2), turned, scale, "lower", below.flip(-1)).flip(-1)
    q, k = with_bias(q, k, bias, scale)
    q = torch.cat([q, below[..., None] / scale], -1)
    k = F.pad(k, (0, 1, 1, 0))
    k[..., 0, -1] = 1.0
    if triangle == "lower":  # the null query in front keeps the diagonal where it was
        q = F.pad(q, (0, 0, 1, 0))
    value = torch.zeros(k.shape[-2], 1, dtype=q.dtype, device=q.device)
    value[0] = 1.0
    p = attend(q, k, value.expand(*k.shape[:-2], -1, -1), scale, None, triangle)[..., -below.shape[-1] :, 0]
    p = p.clamp(torch.finfo(p.dtype).tiny, 1 - torch.finfo(p.dtype).eps)
    return below + torch.log1p(-p) - p.log()


def mean_logits(
    q: Tensor, k: Tensor, bias: Tensor | None, scale: float, triangle: Structure = "full", mask: Tensor | None = None
) -> Tensor:
    """Σ_j A_ij (scale · q_i·k_j + bias_j) with A the softmax of just these logits, (*batch, N); one call."""
    values = k if bias is None else torch.cat([k, bias.clamp(min=MASKED).where(bias > MASKED, 0.0)[..., None]], -1)
    means = attend(*with_bias(q, k, bias, scale), values, scale, mask, triangle)
    logits = scale * (q * means[..., : q.shape[-1]]).sum(-1)
    return logits if bias is None else logits + means[..., -1]


def with_bias(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Queries and keys of one more dimension, which adds ``bias`` (*batch, N) to the logits of the keys.

    So no mask is made and the kernels keep their causal form. −∞ becomes ``MASKED``.
    """
    if bias is None:
        return q, k
    bias = (bias.clamp(min=MASKED) / scale).to(q.dtype)[..., None]
    return torch.cat([q, torch.ones_like(bias).expand(*q.shape[:-1], 1)], -1), torch.cat([k, bias], -1)


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
