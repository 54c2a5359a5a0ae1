"""Softmax attention written out, so that its weights exist as a tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias

from ..errors import CaptureError


def explicit_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What ``scaled_dot_product_attention`` returns for the same arguments: softmax(scale · q kᵀ + mask) v.

    Args:
        query: (…, H, N, d).
        key: (…, H or a divisor of it, M, d).
        value: (…, H or a divisor of it, M, e).
        attn_mask: bool (True may attend) or float (added to the logits), broadcastable to (…, H, N, M).
        dropout_p: only 0 has a gradient that means something.
        is_causal: query i sees keys 0 … i.
        scale: factor of the logits; 1/√d where None.
        enable_gqa: fewer heads of keys and values than of queries, each shared by equally many.

    Raises:
        CaptureError: dropout, a query that sees no key at all, or a mask of an unknown kind.
    """
    if dropout_p > 0:
        raise CaptureError(
            f"attention runs with dropout {dropout_p:g}, which makes its gradients random; call module.eval()"
        )
    if isinstance(attn_mask, CausalBias):
        raise CaptureError("attention is masked by a CausalBias, expected a bool or float tensor, or is_causal=True")
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = torch.matmul(query, key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        seen = attn_mask if attn_mask.dtype == torch.bool else attn_mask > -torch.inf
        if not bool(seen.any(-1).all()):
            raise CaptureError("the attention mask leaves a query without any key, expected one at least per row")
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)
