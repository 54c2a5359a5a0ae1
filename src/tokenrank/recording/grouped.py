"""Grouped heads as libraries rearrange them before the kernel: laid along the queries, or repeated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def unpacked(module: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """q and mask with one row a query, where transformers packed a decoding step's head groups.

    For one query token with a mask, transformers reshapes q (B, H, 1, d) to (B, H_k, H / H_k, d), so
    that the fused kernel reads each key head once: what looks like queries is heads. A module
    that says how many heads it has makes that certain.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if groups == 1 or q.ndim != 4 or q.shape[-2] != groups or q.shape[-3] != k.shape[-3]:
        return q, mask
    heads = _heads(module)
    if heads is None or q.shape[-3] * groups != heads:
        return q, mask
    if mask is not None and mask.ndim == 4 and mask.shape[-3] > 1:
        mask = mask.reshape(mask.shape[0], heads, 1, mask.shape[-1])
    return q.reshape(q.shape[0], heads, 1, q.shape[-1]), mask


def ungrouped_once(module: nn.Module, q: Tensor, k: Tensor) -> Tensor:
    """k with each key head once, (B, H_k, M, d), where it was repeated for its H / H_k query heads.

    A module that says how many heads share a key head is not believed: the repetitions are compared.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if not isinstance(groups, int) or groups < 2 or k.ndim != 4 or k.shape[-3] != q.shape[-3] or k.shape[-3] % groups:
        return k
    apart = k.unflatten(1, (-1, groups))
    once = apart[:, :, 0]
    if not k.is_meta and not all(torch.equal(once, apart[:, :, i]) for i in range(1, groups)):
        return k
    return once


def _heads(module: nn.Module) -> int | None:
    config: Any = getattr(module, "config", None)
    config = getattr(config, "get_text_config", lambda: config)()
    found = getattr(config, "num_attention_heads", None) or getattr(module, "num_heads", None)
    return found if isinstance(found, int) else None
