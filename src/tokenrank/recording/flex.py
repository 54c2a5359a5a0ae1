"""FlexAttention: the higher-order operator under ``torch.nn.attention.flex_attention``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from .journal import Journal
from .quiet import Unnoticed, exact


def functions() -> frozenset[Any]:
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
            logits = _logits(q, k, scale)
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


def _logits(q: Tensor, k: Tensor, scale: float) -> Tensor:
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
