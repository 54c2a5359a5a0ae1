"""One sample of a batch, without its padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..operators import allowed
from ..recording import AttentionRecord


def seen_keys(record: AttentionRecord) -> list[int] | None:
    """The keys that some query of some head may attend to; None where that is all of them."""
    if record.mask is None:
        return None
    seen = allowed(record.mask)
    seen = seen.flatten(0, -2).any(0) if seen.ndim > 1 else seen
    if seen.numel() == 1 or bool(seen.all()):
        return None
    return [int(i) for i in seen.nonzero()]


def with_tokens(record: AttentionRecord, keep: Sequence[int]) -> AttentionRecord:
    """The square record on the tokens ``keep`` alone; exact where the others are attended to by none of them."""

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.index_select(-2, index.to(tensor.device))

    index = torch.tensor(keep)
    mask, weights = record.mask, record.weights
    if mask is not None:
        mask = mask.index_select(-1, index.to(mask.device))
        mask = rows(mask) if mask.ndim > 1 and mask.shape[-2] > 1 else mask
    if weights is not None:
        weights = weights.index_select(-1, index.to(weights.device)).index_select(-2, index.to(weights.device))
    return replace(record, q=rows(record.q), k=rows(record.k), mask=mask, weights=weights)
