"""Attention with more tokens than there were: the words of a second stream among picture and prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import CaptureError
from ..layout import TokenLayout
from ..recording import AttentionRecord
from ..recording.fused import FusedCall
from .outside import ExtraWords

SPAN = "words"
"""The span of words outside of the prompt."""

_CLOSE = 0.05  # of the largest key: what two runs of one computation differ by in half precision is a tenth of it


@dataclass(frozen=True, eq=False)
class Rows:
    """Queries, keys and values of the words in one attention, (B, H, T, d).

    Attributes:
        kind: "joint" among picture and words; "cross", where the picture attends to the words, and queries are None.
        query, key, value: of the words.
        keys: of the picture in the first call, (B, H, P, d).
        picture: (P,) its places among the tokens of the first call.
    """

    kind: Literal["joint", "cross"]
    query: Tensor | None
    key: Tensor
    value: Tensor
    keys: Tensor | None = None
    picture: Tensor | None = None


@dataclass(frozen=True)
class Sequence:
    """Where the text stands in an attention.

    Attributes:
        kind: "joint" with the picture, "text" alone (refined before it is joined), or "cross" among the keys.
        before: tokens before the text.
        text: tokens of the text, its padding among them.
        count: tokens in all.
    """

    kind: Literal["joint", "text", "cross"]
    before: int
    text: int
    count: int

    @classmethod
    def of(cls, record: AttentionRecord, layout: TokenLayout | None) -> Sequence | None:
        """Of a record; None where no prompt is in it."""
        columns = record.sides[1]
        if columns is not None and not columns.grids:
            return cls("cross", 0, columns.num_tokens, columns.num_tokens)
        if layout is None:
            return None
        text = [i for name in layout.spans if name.startswith("text") for i in layout.indices(name)]
        if not text:
            return None
        kind: Literal["joint", "text"] = "joint" if len(text) < layout.num_tokens else "text"
        return cls(kind, min(text), len(text), layout.num_tokens)

    def joined(self, call: FusedCall, first: FusedCall, sees: Tensor) -> tuple[Rows, FusedCall]:
        """Queries and keys of the words in the second call, and what that computes.

        Args:
            call: of the second forward call: the words in place of the prompt, then what pads them.
            first: the same of the first.
            sees: which words attend to which, bool (T, T).
        """
        count, device = len(sees), call.key.device
        if self.kind == "cross":
            return Rows("cross", None, call.key[..., :count, :], call.value[..., :count, :]), call
        total = call.key.shape[-2]
        text = total - (self.count - self.text)
        own = torch.arange(self.before, self.before + count, device=device)
        picture = _others(total, self.before, text).to(device)
        allowed = torch.ones(total, total, dtype=torch.bool, device=device)
        allowed[own] = False
        allowed[own[:, None], picture] = True
        allowed[own[:, None], own] = sees.to(device)
        query, key, value = (each[..., own, :] for each in (call.query, call.key, call.value))
        if self.kind == "text":
            return Rows("joint", query, key, value), replace(call, mask=allowed)
        there = _others(self.count, self.before, self.text).to(device)
        keys, values = call.key.clone(), call.value.clone()
        keys[..., picture, :], values[..., picture, :] = first.key[..., there, :], first.value[..., there, :]
        changed = replace(call, key=keys, value=values, mask=allowed)
        return Rows("joint", query, key, value, first.key[..., there, :], there), changed


def _others(count: int, before: int, text: int) -> Tensor:
    """Places that are not the text's."""
    return torch.cat([torch.arange(before), torch.arange(before + text, count)])


def widened(record: AttentionRecord, rows: Rows, words: ExtraWords, sees: Tensor) -> AttentionRecord:
    """The record in which the words are tokens, last of all.

    Raises:
        CaptureError: its weights alone are known, or it is of other heads, samples, or another picture than the rows.
    """
    if record.q is None or record.k is None:
        raise CaptureError(
            f"of the attention of {record.name!r} only the weights were recorded ({record.kind}), expected queries and "
            "keys; words outside of the prompt need PyTorch's own attention: set_attention_backend('native')"
        )
    if record.k.shape[:-2] != rows.key.shape[:-2]:
        raise CaptureError(
            f"the keys of {record.name!r} were recorded with shape {tuple(record.k.shape)}, but its attention has "
            f"{tuple(rows.key.shape[:-2])} samples and heads; record all heads, and select branch or sample later"
        )
    if rows.kind == "cross":
        mask = None if record.mask is None else _with_columns(record.mask, rows.key.shape[-2])
        sides = record.sides[0], None if record.sides[1] is None else _with_span(record.sides[1], words)
        return replace(record, k=torch.cat([record.k, rows.key.to(record.k)], -2), mask=mask, sides=sides)
    if rows.picture is None:
        return record  # a text that is refined alone: the words are no part of it
    assert rows.query is not None
    _check_same(record, rows)
    return replace(
        record,
        q=torch.cat([record.q, rows.query.to(record.q)], -2),
        k=torch.cat([record.k, rows.key.to(record.k)], -2),
        mask=_joint_mask(record, rows.picture, sees),
        layout=_with_span(record.layout, words) if isinstance(record.layout, TokenLayout) else record.layout,
    )


def _check_same(record: AttentionRecord, rows: Rows) -> None:
    assert record.k is not None
    assert rows.picture is not None
    assert rows.keys is not None
    recorded, now = record.k[..., rows.picture.to(record.k.device), :], rows.keys.to(record.k)
    if not bool((recorded - now).abs().max() <= _CLOSE * now.abs().max()):
        raise CaptureError(
            f"the denoiser no longer computes what the trace holds of {record.name!r}; give the arguments of that "
            "forward call, and the module as it ran"
        )


def _joint_mask(record: AttentionRecord, picture: Tensor, sees: Tensor) -> Tensor:
    """(…, N + T, N + T): the picture and the words see each other, the prompt sees what it saw."""
    count, more = record.shape[-1], len(sees)
    old, device = record.mask, record.tensors["k"].device
    seen = torch.zeros(count + more, count + more, dtype=torch.bool, device=device)
    seen[:count, :count] = True
    seen[picture.to(device), count:] = True
    seen[count:, picture.to(device)] = True
    seen[count:, count:] = sees.to(device)
    if old is None:
        return seen
    old = old.expand(*old.shape[:-2], count, count) if old.ndim > 1 else old.expand(count, count)
    if old.dtype == torch.bool:
        joint = seen.expand(*old.shape[:-2], *seen.shape).clone()
        joint[..., :count, :count] = old
        return joint
    added = torch.zeros(*old.shape[:-2], *seen.shape, dtype=old.dtype, device=device).masked_fill_(~seen, -torch.inf)
    added[..., :count, :count] = old
    return added


def _with_columns(mask: Tensor, more: int) -> Tensor:
    """A mask of cross-attention with columns for words, which may all be attended to."""
    free = mask.new_ones(()) if mask.dtype == torch.bool else mask.new_zeros(())
    return torch.cat([mask, free.expand(*mask.shape[:-1], more)], -1)


def _with_span(layout: TokenLayout, words: ExtraWords) -> TokenLayout:
    count, more = layout.num_tokens, len(words.tokens)
    return replace(
        layout,
        spans={**layout.spans, SPAN: more},
        tokens=(*(layout.tokens or ("",) * count), *words.tokens),
        order=None if layout.order is None else (*layout.order, *range(count, count + more)),
    )
