"""Operators from what a model hands over: weights, logits, or queries and keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention_mask import allowed
from ..errors import ChainError
from . import checks
from .attention import MASKED
from .base import Operator, Structure
from .dense import Dense
from .query_key import QueryKey


def from_weights(weights: Tensor) -> Dense:
    """Checked weights (*batch, N, N); a causal chain is recognised by its zeros."""
    weights = checks.stochastic(weights)
    return Dense(weights, _structure(weights))


def from_scores(scores: Tensor) -> Operator:
    """Logits (*batch, N, N), −inf where masked; softmax over the last dimension.

    Its weights are stored where each of them is a normal number. Where a logit lies so far below the largest of its row
    that its weight is not (87 nats in single precision, 708 in double), the logits are kept: a step that is possible
    stays possible, and reversed chains see how large it is. Only what is masked is attended to by nobody.

    Raises:
        ChainError: not square, empty, NaN or +inf, or a row that is −inf throughout.
    """
    checks.square(scores.shape)
    checks.floating("the tensor of logits", scores)
    scores = checks.widened(scores)
    checks.finite("logit", torch.where(scores == -math.inf, 0.0, scores))
    checks.no_masked_rows(scores, False, scores.shape[-1])
    weights = scores.softmax(-1)
    seen = allowed(scores)
    if bool(((weights < torch.finfo(weights.dtype).tiny) & seen).any()):
        none = scores.new_zeros(*scores.shape[:-1], 1)
        # as they were given: what is subtracted from them would round them
        logits = scores.masked_fill(~seen, -math.inf)
        return QueryKey(none, none, 1.0, logits, False, "full" if bool(seen.triu(1).any()) else "lower")
    return Dense(weights, _structure(weights))


def from_query_key(q: Tensor, k: Tensor, scale: float | None, mask: Tensor | None, is_causal: bool) -> Operator:
    """The matrix-free operator of q (*batch, H, N, d) and k (*batch, H or fewer, N, d).

    Raises:
        ChainError: shapes that do not fit, as many keys as queries not given, heads that are
            not a multiple, NaN or infinite entries, a mask of another shape or dtype, a fully
            masked row.
    """
    if q.ndim < 2 or k.ndim != q.ndim or q.shape[-1] != k.shape[-1]:
        raise ChainError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}, expected (*batch, heads, N, d) for both"
        )
    checks.square((*q.shape[:-1], k.shape[-2]))
    k = _one_key_head_per_query_head(q, k)
    checks.floating("q", q)
    checks.floating("k", k)
    dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    checks.finite("q", q)
    checks.finite("k", k)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    if not (math.isfinite(scale) and scale > 0):
        raise ChainError(f"scale is {scale}, expected a positive number; leave it out for 1/√d")
    largest = scale * float(q.double().norm(dim=-1).amax() * k.double().norm(dim=-1).amax())
    if largest > -MASKED / 10:
        raise ChainError(
            f"logits may reach {largest:.3g}, expected at most {-MASKED / 10:.0e}, so that softmax stays finite; "
            "check the scale, and look for an overflow in the model before this layer"
        )
    if mask is None:
        return QueryKey(q, k, scale, None, is_causal)
    mask = _checked_mask(mask, q, is_causal)
    if mask.shape[-2] == 1:
        # a mask over keys alone (padding) is a bias: the kernels keep their causal form, no N × N mask is stored
        return QueryKey(q, k, scale, None, is_causal, bias=_as_bias(mask).squeeze(-2).expand(q.shape[:-1]))
    if is_causal:
        lower = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
        mask = mask & lower if mask.dtype == torch.bool else mask.masked_fill(~lower, -math.inf)
    causal = is_causal or not allowed(mask).expand(*mask.shape[:-1], q.shape[-2]).triu(1).any()
    return QueryKey(q, k, scale, mask, False, "lower" if causal else "full")


def _one_key_head_per_query_head(q: Tensor, k: Tensor) -> Tensor:
    """Grouped heads: query head h uses key head h // (H / H_k)."""
    if q.shape[:-2] == k.shape[:-2]:
        return k
    if q.ndim < 3 or q.shape[:-3] != k.shape[:-3] or q.shape[-3] % k.shape[-3]:
        raise ChainError(
            f"q has leading dimensions {tuple(q.shape[:-2])} and k {tuple(k.shape[:-2])}, expected the same, or "
            "a number of query heads that is a multiple of the key heads"
        )
    return k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)


def _checked_mask(mask: Tensor, q: Tensor, is_causal: bool) -> Tensor:
    n = q.shape[-2]
    full = (*q.shape[:-2], n, n)
    while mask.ndim < 2:
        mask = mask[None]
    try:
        fits = torch.broadcast_shapes(mask.shape, full) == full
    except RuntimeError:
        fits = False
    if not fits:
        raise ChainError(f"mask has shape {tuple(mask.shape)}, expected one that broadcasts to {full}")
    if mask.dtype != torch.bool:
        if not mask.is_floating_point():
            raise ChainError(
                f"mask is {mask.dtype}, expected bool (True may attend) or floating point (added to the logits); "
                "a 0/1 mask of integers is mask.bool()"
            )
        if torch.isnan(mask).any() or (mask == math.inf).any():
            raise ChainError("mask holds NaN or +inf, expected finite numbers or −inf")
    checks.no_masked_rows(mask, is_causal, n)
    return mask if mask.dtype == torch.bool else mask.masked_fill(~allowed(mask), -math.inf)


def _as_bias(mask: Tensor) -> Tensor:
    bias = torch.zeros_like(mask, dtype=torch.float64) if mask.dtype == torch.bool else mask.double()
    return bias.masked_fill(~allowed(mask), -math.inf)


def _structure(weights: Tensor) -> Structure:
    # the first row of a causal chain is the first unit vector; only then look at all of it
    n = weights.shape[-1]
    if n == 1:
        return "lower"
    if weights[..., 0, 1:].any():
        return "full"
    above = (weights[..., i, i + 1 :].any() for i in range(1, n - 1))
    return "full" if any(bool(a) for a in above) else "lower"
