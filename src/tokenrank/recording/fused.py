"""Fused attention: ``scaled_dot_product_attention``, FlexAttention, and kernels that hide what they compute."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional
from torch.nn.attention.bias import CausalBias, CausalVariant

from ..errors import CaptureError
from .journal import Journal
from .mode import running_heads
from .quiet import Unnoticed, exact
from .record import AttentionKind

SDPA: frozenset[Any] = frozenset(
    {
        functional.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,
    }
)


class FusedAttention:
    """Writes down what the fused call was given."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Observe one finished call."""
        with Unnoticed():
            self._observe(*args, **kwargs)

    def _observe(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        call = self._journal.open(query)
        if call is None:
            return
        if isinstance(attn_mask, CausalBias):
            attn_mask, is_causal = _plain_mask(attn_mask, query.device)
        query, attn_mask = unpacked(call.module, query, key, attn_mask)
        query, key = _one_batch(query, key)
        kind: AttentionKind = "sdpa" if running_heads() is None else "multi_head_attention"
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        self._journal.write_query_key(call, kind, query, key, scale, attn_mask, bool(is_causal))


def _plain_mask(mask: CausalBias, device: torch.device) -> tuple[Tensor | None, bool]:
    """A bool mask, or None and True where it is plain causality."""
    if mask.variant == CausalVariant.UPPER_LEFT or mask.seq_len_q == mask.seq_len_kv:
        return None, True
    corner = mask.seq_len_kv - mask.seq_len_q
    return torch.ones(mask.seq_len_q, mask.seq_len_kv, dtype=torch.bool, device=device).tril(corner), False


def _one_batch(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The same batch dimensions for both; the fused call broadcasts them."""
    if q.shape[:-3] == k.shape[:-3]:
        return q, k
    batch = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    return q.expand(*batch, *q.shape[-3:]), k.expand(*batch, *k.shape[-3:])


def unpacked(module: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """q and mask with one row a query, where transformers packed a decoding step's head groups.

    For one query token with a mask, transformers reshapes q (B, H, 1, d) to (B, H_k, H / H_k, d), so
    that the fused kernel reads each key head once: what looks like queries is heads. A module
    that says how many heads it has makes that certain.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if groups == 1 or q.ndim != 4 or q.shape[-2] != groups or q.shape[-3] != k.shape[-3]:
        return q, mask
    heads = _head_count(module)
    if heads is None or q.shape[-3] * groups != heads:
        return q, mask
    if mask is not None and mask.ndim == 4 and mask.shape[-3] > 1:
        mask = mask.reshape(mask.shape[0], heads, 1, mask.shape[-1])
    return q.reshape(q.shape[0], heads, 1, q.shape[-1]), mask


def _head_count(module: nn.Module) -> int | None:
    config: Any = getattr(module, "config", None)
    config = getattr(config, "get_text_config", lambda: config)()
    found = getattr(config, "num_attention_heads", None) or getattr(module, "num_heads", None)
    return found if isinstance(found, int) else None


def flex_functions() -> frozenset[Any]:
    """The operator, where this PyTorch has it."""
    try:
        from torch._higher_order_ops.flex_attention import flex_attention
    except ImportError:
        return frozenset()
    return frozenset({flex_attention})


class FlexAttention:
    """Writes down q, k and the mask, or the weights where the scores were modified."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Observe one finished call."""
        names = ("query", "key", "value", "score_mod", "block_mask", "scale")
        given = dict(zip(names, args, strict=False)) | kwargs
        q, k, scale, score_mod = given["query"], given["key"], given["scale"], given["score_mod"]
        with Unnoticed():
            call = self._journal.open(q)
        if call is None:
            return
        with Unnoticed(modes=True):  # a mask may index tensors, for which PyTorch needs a mode of its own
            mask = _dense_mask(given["block_mask"], q, k)
            plain = _is_identity(score_mod, q)
        with Unnoticed():
            sinks = _sinks(call.module, q.shape[1])
            if plain:
                hidden = mask if mask.is_meta or not mask.all() else None
                self._journal.write_query_key(call, "flex", q, k, scale, hidden, sinks=sinks)
                return
            logits = _scores(q, k, scale)
        with Unnoticed(modes=True):
            logits = _modified(logits, score_mod)
        with Unnoticed():
            logits = logits.masked_fill(~mask, -torch.inf)
            if sinks is not None:
                logits = torch.cat([logits, sinks.to(logits.dtype)[:, None, None].expand(*logits.shape[:-1], 1)], -1)
            weights = logits.softmax(-1)[..., : mask.shape[-1]]
            self._journal.write_weights(call, "flex", weights)


def _is_identity(score_mod: Callable[..., Tensor], q: Tensor) -> bool:
    """Whether a score comes back untouched: the same tensor with the same value."""
    zero = torch.zeros((), dtype=torch.int32, device=q.device)
    score = torch.full((), 0.5, device=q.device)
    return score_mod(score, zero, zero, zero, zero) is score and (score.is_meta or float(score) == 0.5)


def _sinks(module: nn.Module, heads: int) -> Tensor | None:
    """(H,) logits of attention sinks.

    The operator knows none: transformers renormalises its result with the module's parameter of
    this name.
    """
    found = getattr(module, "sinks", None)
    return found if isinstance(found, nn.Parameter) and found.shape == (heads,) else None


def _dense_mask(block_mask: tuple[Any, ...], q: Tensor, k: Tensor) -> Tensor:
    """The mask as bool (B or 1, H or 1, N, M), True where a query may attend."""
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


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    with exact(q.device):
        return scale * (q.float() @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).float().mT)


def _modified(logits: Tensor, score_mod: Callable[..., Tensor]) -> Tensor:
    """score_mod(logit, batch, head, query, key) for all logits (B, H, N, M)."""
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    places = [torch.arange(n, device=logits.device, dtype=torch.int32) for n in logits.shape]
    modify = score_mod
    for dim in (3, 2, 1, 0):
        modify = torch.func.vmap(modify, in_dims=(0, *(0 if d == dim else None for d in range(4))))
    with TransformGetItemToIndex():
        return modify(logits, *places)


_NAMES = re.compile("attn|attention|flash|sage|xformers|varlen", re.IGNORECASE)


def is_opaque(function: Any) -> bool:
    """Whether a torch function is an operator whose name says attention."""
    return isinstance(function, OpOverload | OpOverloadPacket) and _NAMES.search(str(function)) is not None


class OpaqueKernels:
    """How often each such kernel was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def observer(self, function: Any) -> Any:
        """What to call after each call of ``function``."""
        name = str(function)

        def count(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self.calls[name] += 1

        return count
