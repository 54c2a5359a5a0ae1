"""Token strings in a layout, and layouts that grow while a text is generated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ..layout import TokenLayout


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
