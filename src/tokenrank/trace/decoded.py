"""Decoding with a cache read as one attention: rows appended as tokens came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from ..attention_mask import allowed
from ..errors import CaptureError
from ..layout import TokenLayout
from ..recording import AttentionRecord
from .joined_weights import begins_anew, has_copies, joined_weights, weights_of
from .parts import spelled


def join(records: Sequence[AttentionRecord]) -> list[AttentionRecord]:
    """Join the calls of each module: a prefill and the decoding steps on its cache; layouts and texts grow with them.

    Every call must attend to the keys of the call before and to its own, which is verified number by
    number; with a sliding window it attends to the last of them. Cross-attention keeps its keys and
    gains rows. A square call begins a new text. Where only weights are known, their zeros must say the same
    (``joined_weights``), and nothing else must have told of beams that changed places.

    Raises:
        CaptureError: the keys are others: another text, beams that changed places, or a cache that was
            cut or compressed.
    """
    texts: list[list[AttentionRecord]] = []
    open_texts: dict[tuple[str, int], list[AttentionRecord]] = {}
    for record in records:
        key = record.name, record.index
        if key in open_texts and not _begins(record, open_texts[key]):
            open_texts[key].append(record)
        else:
            open_texts[key] = [record]
            texts.append(open_texts[key])
    return [parts[0] if len(parts) == 1 else _with_text(_joined(parts), parts) for parts in texts]


def _begins(record: AttentionRecord, text: Sequence[AttentionRecord]) -> bool:
    """Whether a text begins here: a prefill, or a call of another batch."""
    first = text[0]
    if record.shape[:-2] != first.shape[:-2]:
        return True
    if not first.is_square:  # cross-attention: another text has other keys
        return record.shape[-1] != first.shape[-1] or (record.weights is not None and begins_anew(record.weights))
    return record.is_square and record.shape[-1] > 1


def _joined(parts: Sequence[AttentionRecord]) -> AttentionRecord:
    first = parts[0]
    if any(p.q is None or p.k is None for p in parts):
        _refuse_beams(parts)
        empty = replace(first, kind="weights", q=None, k=None, scale=1.0, mask=None, is_causal=False, sinks=None)
        return replace(empty, weights=joined_weights(parts))
    if _keeps_its_keys(parts):
        return replace(first, q=_rows(parts), mask=_stacked_masks(parts), is_causal=False)
    cut = [_visible(p) for p in parts]
    keys, begins = _grown_keys(cut)
    is_causal, mask = _whole_mask(cut, begins)
    return replace(first, q=_rows(cut), k=keys, mask=mask, is_causal=is_causal)


def _refuse_beams(parts: Sequence[AttentionRecord]) -> None:
    """Weights of beam search: a row of the batch is another text in each call, and no number shows it."""
    name, told = parts[0].name, {p.forward.reordered for p in parts}
    if True in told:
        raise CaptureError(
            f"{name!r} generated with beams, which change places, so that its {len(parts)} calls are no one text; "
            "generate with num_beams=1, or take one forward call, trace.select(step=…)"
        )
    if None in told and has_copies(weights_of(parts[0])):
        raise CaptureError(
            f"samples of {name!r} begin with the same weights, as beams do, and nothing says whether they changed "
            "places; pass all of what generate(return_dict_in_generate=True) returned, or take one sample, "
            "trace.select(sample=…), if there were no beams"
        )


def _grown_keys(parts: Sequence[AttentionRecord]) -> tuple[Tensor, list[int]]:
    """The keys of all calls, each once, and at which of them those of each call begin."""
    keys, begins = parts[0].k, [0]
    assert keys is not None
    for before, p in pairwise(parts):
        assert p.k is not None
        new = p.shape[-2]
        old = p.k[..., : p.shape[-1] - new, :]
        count = old.shape[-2]
        if count > keys.shape[-2] or not _same(keys[..., keys.shape[-2] - count :, :], old):
            raise CaptureError(
                f"the keys of {p.name!r} in forward call {p.step} are not those of forward call "
                f"{before.step} and {new} new: another text, beams that changed places, or a cache that was "
                "compressed; take one forward call, trace.select(step=…)"
            )
        begins.append(keys.shape[-2] - count)
        keys = p.k if count == keys.shape[-2] else torch.cat([keys, p.k[..., count:, :]], -2)
    return keys, begins


def _keeps_its_keys(parts: Sequence[AttentionRecord]) -> bool:
    first = parts[0].k
    assert first is not None
    return all(p.k is not None and p.k.shape == first.shape and _same(first, p.k) for p in parts[1:])


def _rows(parts: Sequence[AttentionRecord]) -> Tensor:
    return torch.cat([p.q for p in parts if p.q is not None], -2)


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    shared = a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
    return shared or torch.equal(a, b)


def _visible(record: AttentionRecord) -> AttentionRecord:
    """Without the keys at the end that no query sees: room that a static cache keeps for later."""
    if record.mask is None or record.k is None:
        return record
    seen = allowed(record.mask).flatten(0, -2).any(0) if record.mask.ndim > 1 else allowed(record.mask)
    count = int(seen.nonzero()[-1]) + 1 if bool(seen.any()) else 0
    if seen.numel() == 1 or not record.shape[-2] <= count < record.shape[-1]:
        return record
    return replace(record, k=record.k[..., :count, :], mask=record.mask[..., :count])


def _whole_mask(parts: Sequence[AttentionRecord], begins: Sequence[int]) -> tuple[bool, Tensor | None]:
    """Whether the joined rows are plainly causal, or their mask (…, T, T)."""
    masks = [_block(p) for p in parts]
    if not any(begins) and _is_triangle(masks):
        return True, None
    total = sum(p.shape[-2] for p in parts)
    lead = np.broadcast_shapes(*(mask.shape[:-2] for mask in masks))
    masks = _alike(masks)
    hidden = False if masks[0].dtype == torch.bool else -torch.inf
    whole = torch.full((*lead, total, total), hidden, dtype=masks[0].dtype, device=masks[0].device)
    row = 0
    for mask, begin in zip(masks, begins, strict=True):
        n, m = mask.shape[-2:]
        whole[..., row : row + n, begin : begin + m] = mask
        row += n
    return False, whole


def _is_triangle(masks: Sequence[Tensor]) -> bool:
    """Whether every query sees the keys up to its own, and no bias beside them."""
    row = 0
    for mask in masks:
        lower = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device).tril(row)
        if mask.dtype != torch.bool or not bool((mask == lower).all()):
            return False
        row += mask.shape[-2]
    return True


def _alike(masks: Sequence[Tensor]) -> list[Tensor]:
    """All of one type: bool, or the bias of the first that has one."""
    dtype = next((mask.dtype for mask in masks if mask.dtype != torch.bool), torch.bool)
    if dtype == torch.bool:
        return list(masks)
    return [mask if mask.dtype != torch.bool else _bias(mask, dtype) for mask in masks]


def _bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, -torch.inf)


def _block(record: AttentionRecord) -> Tensor:
    """What the queries of one call see of its keys: bool where the mask only hides, else its bias."""
    n, m = record.shape[-2:]
    assert record.q is not None
    seen = torch.ones(n, m, dtype=torch.bool, device=record.q.device)
    if record.is_causal:
        seen = seen.tril()
    if record.mask is None:
        return seen
    open_ = allowed(record.mask)
    if record.mask.dtype == torch.bool:
        return open_ & seen
    numbers = record.mask.expand(*record.mask.shape[:-2], n, m)
    if not bool((open_ & seen).any(-1).all()):
        return numbers.masked_fill(~seen, -torch.inf)  # rows that see nothing are uniform by their numbers
    if bool((record.mask.masked_fill(~open_, 0) == 0).all()):
        return open_ & seen
    return numbers.masked_fill(~(open_ & seen), -torch.inf)


def _stacked_masks(parts: Sequence[AttentionRecord]) -> Tensor | None:
    """Of cross-attention: the masks of the calls under each other."""
    if all(p.mask is None for p in parts):
        return None
    blocks = _alike([_block(p) for p in parts])
    lead = np.broadcast_shapes(*(b.shape[:-2] for b in blocks))
    return torch.cat([b.expand(*lead, *b.shape[-2:]) for b in blocks], -2)


def _with_text(joined: AttentionRecord, parts: Sequence[AttentionRecord]) -> AttentionRecord:
    """With the layout and the texts of all the calls, which are those of the first until here."""
    layout = joined.layout
    if not joined.is_square:
        layout = None
    elif isinstance(layout, TokenLayout):
        layout = _extended(layout, joined.shape[-2] - layout.num_tokens)
    texts: tuple[TokenLayout, ...] = ()
    if len({len(p.texts) for p in parts}) == 1:
        texts = tuple(map(_appended, zip(*(p.texts for p in parts), strict=True)))
    rows, columns = joined.sides
    if rows is not None:
        rows = texts[0] if len(texts) == 1 else None
    return replace(joined, layout=spelled(layout, texts), texts=texts, sides=(rows, columns))


def _extended(layout: TokenLayout, count: int) -> TokenLayout:
    """``layout`` with ``count`` tokens of text after it, without strings."""
    spans = dict(layout.spans)
    last = list(spans)[-1] if spans else ""
    name = last if last.startswith("text") else "generated"
    spans[name] = spans.get(name, 0) + count
    after = range(layout.num_tokens, layout.num_tokens + count)
    order = None if layout.order is None else (*layout.order, *after)
    return TokenLayout(spans, layout.grids, special=layout.special, order=order, seconds=layout.seconds)


def _appended(texts: Sequence[TokenLayout]) -> TokenLayout:
    """Texts one after the other."""
    begins = accumulate((text.num_tokens for text in texts), initial=0)
    special = [begin + place for begin, text in zip(begins, texts, strict=False) for place in text.special]
    return TokenLayout.text([token for text in texts for token in text.tokens or ()], special)
