"""Fused attention: what ``scaled_dot_product_attention`` and FlexAttention are given, and the same written out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeGuard, get_args, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional

from ..attention_mask import allowed
from ..errors import CaptureError
from .quiet import Unnoticed, exact

if TYPE_CHECKING:
    from torch.nn.attention.bias import CausalBias

SDPA: frozenset[Any] = frozenset(
    {
        functional.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,
    }
)


@dataclass(frozen=True, eq=False)
class FusedCall:
    """softmax(modify(scale · q kᵀ) + mask) v, as one call computes it.

    Attributes:
        query: (…, H, N, d).
        key: (…, H or a divisor of it, M, d).
        value: (…, H or a divisor of it, M, e).
        scale: factor of the logits, always explicit.
        mask: bool (True may attend) or float (added to the logits), broadcastable to (…, H, N, M); or None.
        is_causal: query i sees keys 0 … i.
        dropout: share of the weights that is dropped.
        enable_gqa: heads of keys and values may be fewer than of queries, each shared by equally many.
        dtype: in which logits and weights are computed.
        modify: what FlexAttention does to the logits (B, H, N, M), its ``score_mod``; None where nothing.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    mask: Tensor | None = None
    is_causal: bool = False
    dropout: float = 0.0
    enable_gqa: bool = False
    dtype: torch.dtype = torch.float32
    modify: Callable[[Tensor], Tensor] | None = None

    @property
    def shape(self) -> torch.Size:
        """(…, H, N, M) of the logits."""
        return torch.Size((*self.query.shape[:-1], self.key.shape[-2]))

    def hiding(self, hidden: Tensor) -> FusedCall:
        """The call in which no query sees the keys where ``hidden``, bool and broadcastable to ``shape``, is True."""
        hidden = hidden[(None,) * (2 - hidden.ndim)]  # PyTorch takes no mask of one dimension
        mask = _causal(self) if self.is_causal and self.mask is None else self.mask
        if mask is None or mask.dtype == torch.bool:
            mask = ~hidden if mask is None else mask & ~hidden
        else:
            mask = mask.masked_fill(hidden, -torch.inf)
        return replace(self, mask=mask, is_causal=False)

    @property
    def sees_all(self) -> bool:
        """Whether the mask leaves every query a key to attend to."""
        if self.mask is None:
            return True
        may = allowed(self.mask)
        return bool((may & _causal(self) if self.is_causal else may).any(-1).all())


def sdpa_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> FusedCall:
    """What ``scaled_dot_product_attention`` was given."""
    if _is_causal_bias(attn_mask):
        attn_mask, is_causal = _plain_mask(attn_mask, query.device)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return FusedCall(query, key, value, scale, attn_mask, bool(is_causal), dropout_p, enable_gqa, query.dtype)


def run_sdpa(function: Any, call: FusedCall) -> Tensor:
    """The result of ``function``, one of ``SDPA``, for a call."""
    out: Tensor = function(
        call.query,
        call.key,
        call.value,
        attn_mask=call.mask,
        dropout_p=call.dropout,
        is_causal=call.is_causal,
        scale=call.scale,
        enable_gqa=call.enable_gqa,
    )
    return out


def written_out(call: FusedCall) -> tuple[Tensor, Tensor]:
    """The result of a call and its logits (…, H, N, M), by plain functions; O(N · M) memory.

    Queries that may attend to no key get zeros, as from PyTorch's kernels.
    """
    q, k, v = call.query, _each_head(call.key, call.query), _each_head(call.value, call.query)
    with nullcontext() if call.dtype == q.dtype else exact(q.device):
        if call.dtype != q.dtype:
            q, k = q.to(call.dtype), k.to(call.dtype)
        logits = _masked_logits(call, torch.matmul(q, k.transpose(-2, -1)) * call.scale)
        with Unnoticed():
            blind = (logits == -torch.inf).all(-1, keepdim=True)
            some = bool(blind.any())
        # filled before the softmax, too: its gradient would be NaN
        weights = torch.softmax(logits.masked_fill(blind, 0.0) if some else logits, -1)
        weights = weights.masked_fill(blind, 0.0) if some else weights
        return torch.matmul(weights if weights.dtype == v.dtype else weights.to(v.dtype), v), logits


def _masked_logits(call: FusedCall, logits: Tensor) -> Tensor:
    if call.modify is not None:
        logits = call.modify(logits)
    if call.is_causal:
        logits = logits.masked_fill(~_causal(call), -torch.inf)
    if call.mask is None:
        return logits
    return logits.masked_fill(~call.mask, -torch.inf) if call.mask.dtype == torch.bool else logits + call.mask


def _each_head(tensor: Tensor, query: Tensor) -> Tensor:
    """Keys or values once a query head, where heads share them."""
    if tensor.ndim < 3 or tensor.shape[-3] in (1, query.shape[-3]):
        return tensor
    return tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], -3)


def _causal(call: FusedCall) -> Tensor:
    return torch.ones(call.shape[-2:], dtype=torch.bool, device=call.query.device).tril()


def _is_causal_bias(mask: object) -> TypeGuard[CausalBias]:
    # importing the module takes PyTorch's compiler along, seconds of it; without it there is no such mask
    module = sys.modules.get("torch.nn.attention.bias")
    return module is not None and isinstance(mask, module.CausalBias)


def _plain_mask(mask: CausalBias, device: torch.device) -> tuple[Tensor | None, bool]:
    """A bool mask, or None and True where it is plain causality."""
    from torch.nn.attention.bias import CausalVariant

    if mask.variant == CausalVariant.UPPER_LEFT or mask.seq_len_q == mask.seq_len_kv:
        return None, True
    corner = mask.seq_len_kv - mask.seq_len_q
    return torch.ones(mask.seq_len_q, mask.seq_len_kv, dtype=torch.bool, device=device).tril(corner), False


def flex_functions() -> frozenset[Any]:
    """The operator under ``torch.nn.attention.flex_attention``, where this PyTorch has it."""
    try:
        from torch._higher_order_ops.flex_attention import flex_attention
    except ImportError:
        return frozenset()
    return frozenset({flex_attention})


def is_flex_refusal(code: CodeType) -> bool:
    """Whether this is the code that refuses FlexAttention gradients on the CPU, for want of a compiled kernel."""
    from torch.nn.attention import flex_attention as module

    check = getattr(module, "_validate_device", None)
    return check is not None and code is check.__code__


def flex_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What FlexAttention's operator was given, by name."""
    return dict(zip(("query", "key", "value", "score_mod", "block_mask", "scale"), args, strict=False)) | kwargs


def flex_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> FusedCall:
    """What FlexAttention's operator was given, with its mask as a tensor."""
    given = flex_arguments(args, kwargs)
    q, k, score_mod = given["query"], given["key"], given["score_mod"]
    with Unnoticed(modes=True):
        mask = dense_mask(given["block_mask"], q, k)
        modify = None if is_identity(score_mod, q) else partial(modified, score_mod=score_mod)
    wide = torch.promote_types(q.dtype, torch.float32)
    return FusedCall(q, k, given["value"], given["scale"], mask, enable_gqa=True, dtype=wide, modify=modify)


def flex_result(out: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
    """What the operator returns: the result, and of every query's logits their logsumexp and maximum in units of ln 2.

    PyTorch before 2.9 returns no maximum.
    """
    (operator,) = flex_functions()
    count = len(get_args(get_type_hints(type(operator).__call__)["return"]))
    with torch._C.DisableTorchFunction():  # mostly unused: nobody else needs to know what to do with them
        return (out, logits.logsumexp(-1) / math.log(2), logits.amax(-1) / math.log(2))[:count]


def dense_mask(block_mask: tuple[Any, ...], q: Tensor, k: Tensor) -> Tensor:
    """The mask as bool (B or 1, H or 1, N, M), True where a query may attend.

    A mask may index tensors, for which PyTorch needs a mode of its own: not to be called where modes are off.
    """
    from torch.nn.attention.flex_attention import create_mask

    mask_mod = block_mask[-1]
    if not callable(mask_mod):
        raise CaptureError(
            f"the block mask of FlexAttention ends in {type(mask_mod).__name__}, expected its mask_mod; PyTorch "
            f"{torch.__version__} lays it out in an unknown way: use scaled_dot_product_attention instead"
        )
    blocks = next(entry for entry in block_mask if isinstance(entry, Tensor))  # (B or 1, H or 1, blocks)
    mask: Tensor = create_mask(mask_mod, blocks.shape[0], blocks.shape[1], q.shape[-2], k.shape[-2], str(q.device))
    return mask


def is_identity(score_mod: Callable[..., Tensor], q: Tensor) -> bool:
    """Whether a score comes back untouched: the same tensor with the same value."""
    zero = torch.zeros((), dtype=torch.int32, device=q.device)
    score = torch.full((), 0.5, device=q.device)
    return score_mod(score, zero, zero, zero, zero) is score and (score.is_meta or float(score) == 0.5)


def modified(logits: Tensor, score_mod: Callable[..., Tensor]) -> Tensor:
    """score_mod(logit, batch, head, query, key) for all logits (B, H, N, M)."""
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    places = [torch.arange(n, device=logits.device, dtype=torch.int32) for n in logits.shape]
    modify = score_mod
    for dim in (3, 2, 1, 0):
        modify = torch.func.vmap(modify, in_dims=(0, *(0 if d == dim else None for d in range(4))))
    with TransformGetItemToIndex():
        return modify(logits, *places)
