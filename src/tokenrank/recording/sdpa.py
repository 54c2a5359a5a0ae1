"""``torch.nn.functional.scaled_dot_product_attention``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import CausalBias, CausalVariant

from . import multi_head
from .grouped import unpacked
from .journal import Journal
from .quiet import Unnoticed
from .record import Kind

FUNCTIONS: frozenset[Any] = frozenset(
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
        kind: Kind = "sdpa" if multi_head.running() is None else "multi_head_attention"
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
