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
from .device.halves import HALVES
from .device.path import Path, path_for
from .factors import Factors, chosen, facts
from .query_key import QueryKey
from .rounding import largest_products_by_length

ROWS = 64  # of weights that are looked at together


def from_weights(weights: Tensor, path: Path | None = None) -> Dense:
    """Checked weights (*batch, N, N); a causal chain is recognised by its zeros. ``path`` as of ``from_query_key``."""
    path_for(weights.device, path)
    weights, ahead = checks.stochastic_and_ahead(weights)
    return Dense(weights, "full" if ahead else _structure(weights), path)


def from_scores(scores: Tensor, path: Path | None = None) -> Operator:
    """Logits (*batch, N, N), −inf where masked; softmax over the last dimension.

    Its weights are stored where each of them is a normal number. Where a logit lies so far below the largest of its row
    that its weight is not (87 nats in single precision, 708 in double), the logits are kept: a step that is possible
    stays possible, and reversed chains see how large it is. Only what is masked is attended to by nobody.

    Raises:
        ChainError: not square, empty, NaN or +inf, or a row that is −inf throughout.
    """
    path_for(scores.device, path)
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
        structure: Structure = "full" if bool(seen.triu(1).any()) else "lower"
        return QueryKey(none, none, 1.0, logits, False, structure, path=path)
    return Dense(weights, _structure(weights), path)


def from_query_key(
    q: Tensor, k: Tensor, scale: float | None, mask: Tensor | None, is_causal: bool, path: Path | None = None
) -> Operator:
    """The matrix-free operator of q (*batch, H, N, d) and k (*batch, H or fewer, N, d).

    Queries and keys of different precision are taken to the one that holds both, float32 for float16 and bfloat16. Half
    precision is widened to float32; on the device path it stays what it is, and the vector says what products are in.

    Args:
        q, k, scale, mask, is_causal: as of ``AttentionChain.from_qk``.
        path: "host" or "device" (``Operator.path``); None for that of the tensors' device.

    Raises:
        ChainError: shapes that do not fit, as many keys as queries not given, heads that are
            not a multiple, NaN or infinite entries, a mask of another shape or dtype, a fully
            masked row, tensors on several devices, a device without float64.
    """
    one_device(q=q, k=k, mask=mask)
    on = path_for(q.device, path)
    if q.ndim < 2 or k.ndim != q.ndim or q.shape[-1] != k.shape[-1]:
        raise ChainError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}, expected (*batch, heads, N, d) for both"
        )
    checks.square((*q.shape[:-1], k.shape[-2]))
    k = one_key_head_per_query_head(q, k)
    checks.floating("q", q)
    checks.floating("k", k)
    dtype = torch.promote_types(q.dtype, k.dtype)
    if on == "host" or dtype not in HALVES:
        dtype = torch.promote_types(dtype, torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    if scale is None and not q.shape[-1]:
        raise ChainError(f"q has shape {tuple(q.shape)}, expected at least one dimension d, or a scale beside it")
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    fine, hidden, above = _looked_at(q, k, scale, mask, is_causal) if on == "device" else (False, None, None)
    if not fine:
        _check_numbers(q, k, scale)
        if mask is not None:
            _check_mask(_fitting_mask(mask, q), is_causal, q.shape[-2])
    if mask is None:
        return QueryKey(q, k, scale, None, is_causal, path=path)
    mask = _fitting_mask(mask, q)
    mask = mask if mask.dtype == torch.bool else mask.masked_fill(~allowed(mask), -math.inf)
    if mask.shape[-2] == 1:
        # a mask over keys alone (padding) is a bias: the kernels keep their causal form, no N × N mask is stored
        bias = Factors.given(_as_bias(mask).squeeze(-2).expand(q.shape[:-1]), hidden=hidden)
        return QueryKey(q, k, scale, None, is_causal, bias=bias, path=path).without_empty_rows()
    if is_causal:
        lower = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
        mask = mask & lower if mask.dtype == torch.bool else mask.masked_fill(~lower, -math.inf)
    if above is None:
        above = not is_causal and bool(_above(mask, q.shape[-2]))
    causal = is_causal or not above
    return QueryKey(q, k, scale, mask, False, "lower" if causal else "full", path=path).without_empty_rows()


def one_device(**tensors: Tensor | None) -> None:
    """Raise ChainError unless all of these tensors are on one device."""
    given = {name: str(tensor.device) for name, tensor in tensors.items() if tensor is not None}
    if len(set(given.values())) > 1:
        found = ", ".join(f"{name} on {device!r}" for name, device in given.items())
        first = next(iter(given))
        raise ChainError(f"{found}: expected all on one device; move them with .to({first}.device)")


def _check_numbers(q: Tensor, k: Tensor, scale: float) -> None:
    checks.finite("q", q)
    checks.finite("k", k)
    checks.positive_scale(scale)
    checks.largest_logit(scale * float(q.double().norm(dim=-1).amax() * k.double().norm(dim=-1).amax()))


def _looked_at(
    q: Tensor, k: Tensor, scale: float, mask: Tensor | None, is_causal: bool
) -> tuple[bool, tuple[Tensor | None] | None, bool | None]:
    """Whether numbers are finite, logits small enough and no row masked, False where it cannot be said; which keys a
    mask over keys alone hides, as ``Factors.hidden``; and whether another one shows a token what comes after it, None
    where that was not looked at. In one pass and one wait for the device.
    """
    if not (math.isfinite(scale) and scale > 0):
        return False, None, None
    fine = scale * largest_products_by_length(q, k).amax() < -MASKED / 20  # NaN and infinite entries stay what they are
    if mask is None:
        return bool(fine), None, None
    mask = _fitting_mask(mask, q)
    fine = fine & checks.rows_seen(mask, is_causal, q.shape[-2]).all()
    if mask.dtype != torch.bool:
        fine = fine & (mask < math.inf).all()
    if mask.shape[-2] != 1:
        said, above = torch.stack([fine, _above(mask, q.shape[-2])]).tolist()
        return said, None, above
    hidden = (~allowed(mask)).squeeze(-2).expand(q.shape[:-1])
    said, *about = torch.cat([fine[None], facts(hidden)]).tolist()
    return said, (chosen(hidden, *about),), None


def _above(mask: Tensor, num_tokens: int) -> Tensor:
    """Whether some query of a mask sees a key that comes after it, bool ()."""
    return allowed(mask).expand(*mask.shape[:-1], num_tokens).triu(1).any()


def one_key_head_per_query_head(q: Tensor, k: Tensor) -> Tensor:
    """Grouped heads: query head h uses key head h // (H / H_k)."""
    if q.shape[:-2] == k.shape[:-2]:
        return k
    if q.ndim < 3 or q.shape[:-3] != k.shape[:-3] or q.shape[-3] % k.shape[-3]:
        raise ChainError(
            f"q has leading dimensions {tuple(q.shape[:-2])} and k {tuple(k.shape[:-2])}, expected the same, or "
            "a number of query heads that is a multiple of the key heads"
        )
    return k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)


def _fitting_mask(mask: Tensor, q: Tensor) -> Tensor:
    """A mask of two dimensions at least, of a shape and dtype that can be."""
    n = q.shape[-2]
    full = (*q.shape[:-2], n, n)
    while mask.ndim < 2:
        mask = mask[None]
    if not checks.broadcasts(mask.shape, full):
        raise ChainError(f"mask has shape {tuple(mask.shape)}, expected one that broadcasts to {full}")
    checks.mask_dtype("mask", mask)
    return mask


def _check_mask(mask: Tensor, is_causal: bool, num_tokens: int) -> None:
    checks.mask_numbers("mask", mask)
    checks.no_masked_rows(mask, is_causal, num_tokens)


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
    above = [weights[..., i : i + ROWS, i + 1 :].triu().any() for i in range(1, n - 1, ROWS)]
    return "full" if above and bool(torch.stack(above).any()) else "lower"
