"""Parts of records: one sample without its padding; token strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..layout import TokenLayout
from ..recording import AttentionRecord
from .chains import allowed


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


def spelled(layout: TokenLayout | None, ids: Tensor | None, tokenizer: Any, sample: int | None) -> TokenLayout | None:
    """``layout`` with one string a token and the special tokens marked, where a tokenizer and ids are known.

    Args:
        layout: of all of the sequence.
        ids: (B, N) token ids.
        tokenizer: of transformers, or anything with ``convert_ids_to_tokens`` and ``all_special_ids``.
        sample: whose ids to take; None takes them where all samples have the same.
    """
    if layout is None or ids is None or tokenizer is None or layout.tokens is not None:
        return layout
    rows = ids.reshape(-1, ids.shape[-1])
    if rows.shape[-1] != layout.num_tokens:
        return layout
    if sample is None and bool((rows != rows[0]).any()):
        return layout
    row = rows[0 if sample is None or rows.shape[0] == 1 else sample].tolist()
    special = set(tokenizer.all_special_ids)
    marked = tuple(place for place, i in enumerate(row) if i in special)
    return replace(layout, tokens=tuple(map(str, tokenizer.convert_ids_to_tokens(row))), special=marked)


def extended(layout: TokenLayout, count: int) -> TokenLayout:
    """``layout`` with ``count`` tokens of text after it."""
    spans = dict(layout.spans)
    last = list(spans)[-1] if spans else ""
    name = last if last.startswith("text") else "generated"
    spans[name] = spans.get(name, 0) + count
    return TokenLayout(spans, layout.grids, special=layout.special)
