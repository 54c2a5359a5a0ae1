"""Chains of records: plain, with a sink, or of windows put together to the whole picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import CaptureError, ChainError, LayoutError
from ..layout import TokenLayout, Windows
from ..models.partition import CURE
from ..operators import Blocks, from_query_key, from_weights
from ..recording import AttentionRecord
from .parts import blind_tokens, of_sample

SINK = "sink"


def chain_of(record: AttentionRecord) -> AttentionChain:
    """The chain of a square record, with the record's layout.

    Attention within windows becomes one chain on the whole picture, in which no step leaves its window.

    With a learned sink the chain has one token more, the sink, at place 0: every token goes there
    with the share that the sink takes from the softmax, and stays there. The rows are those of the
    model, so that nothing has to be renormalised; ``chain.restrict("text")`` drops it.

    Raises:
        CaptureError: only the shapes of the record are known (device "meta").
        LayoutError: which token is what is not known, for a reason; or a layout of another size.
        ChainError: a token that may attend to nothing, with what drops it; NaN.
    """
    try:
        chain = _chain_of(record)
    except ChainError as error:
        blind = blind_tokens(record)
        if blind is None or not bool(blind.any()):
            raise
        raise ChainError(_about_blind(record, blind)) from error
    if record.q is None or record.k is None:  # a uniform row of padding is a distribution as well
        blind = blind_tokens(record)
        if blind is not None and bool(blind.any()):
            raise ChainError(_about_blind(record, blind))
    return chain


def _about_blind(record: AttentionRecord, blind: Tensor) -> str:
    """What is wrong with a record some of whose tokens may attend to nothing, and what to do."""
    place = [int(i) for i in blind.expand(record.shape[:-1]).nonzero()[0]]
    first = record.shape[0] if len(record.shape) > 3 else 1
    count = record.batch_size or first
    sample = place[0] * count // first if first > 1 else 0
    left = blind_tokens(of_sample([record], sample)[0])
    cure = f"drop padding with trace.select(sample=…), here trace.select(sample={sample})"
    if left is not None and bool(left.any()):
        cure = (
            "others attend to it, so that trace.select(sample=…) cannot drop it as padding: let the mask leave it a key"
        )
    return (
        f"row {place} of the attention of {record.name!r} is fully masked: token {place[-1]} may attend to no key, "
        f"expected one at least; {cure}"
    )


def _chain_of(record: AttentionRecord) -> AttentionChain:
    if any(tensor.is_meta for tensor in record.tensors.values()):
        raise CaptureError(
            f"the record of {record.name!r} holds shapes only, since it is on the device 'meta'; capture again with "
            "another device=, or leave it out"
        )
    layout = known_layout(record)
    if record.windows is not None:
        return AttentionChain.from_operator(stitch(record, record.windows), layout)
    if record.q is None or record.k is None:
        assert record.weights is not None
        return AttentionChain(record.weights, layout=layout)
    q, k, mask = record.q, record.k, record.mask
    if record.sinks is not None:
        q, k, mask = _with_sink(record, q, k, record.sinks)
        layout = None if layout is None else sink_layout(layout)
    return AttentionChain.from_qk(q, k, record.scale, mask, record.is_causal, layout=layout)


def known_layout(record: AttentionRecord) -> TokenLayout | None:
    """The layout of a record, without a sink; None where nothing says it.

    Raises:
        LayoutError: the reason why it is not known, where there is one.
    """
    if isinstance(record.layout, LayoutError):
        raise LayoutError(str(record.layout)) from record.layout
    return record.layout


def sink_layout(layout: TokenLayout) -> TokenLayout:
    """``layout`` with the sink before it."""
    return layout.after(SINK, "<sink>")


def _with_sink(record: AttentionRecord, q: Tensor, k: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """q, k and mask with the sink as token 0, which sees itself alone.

    The sink's logit of a head becomes one more dimension: every query holds it, the sink's key holds
    one, all other keys zero.
    """
    q, k = q.float(), k.float()
    logit = (sinks.float() / record.scale)[:, None, None].expand(*q.shape[:-1], 1)
    q = _before(torch.cat([q, logit], -1), 0.0)
    k = _before(torch.cat([k, torch.zeros_like(k[..., :1])], -1), 0.0)
    k[..., 0, -1] = 1.0
    mask = record.mask
    if mask is not None or not record.is_causal:
        n = q.shape[-2] - 1
        if mask is None:
            mask = torch.ones(n, n, dtype=torch.bool, device=q.device)
        seen, hidden = (True, False) if mask.dtype == torch.bool else (0.0, -torch.inf)
        mask = mask.expand(*mask.shape[:-2], n, n)
        mask = torch.cat([torch.full_like(mask[..., :1], seen), mask], -1)
        mask = _before(mask, hidden)
        mask[..., 0, 0] = seen
    return q, k, mask


def _before(tensor: Tensor, value: float | bool) -> Tensor:
    """One more row of ``value`` before the others."""
    return torch.cat([torch.full_like(tensor[..., :1, :], value), tensor], -2)


def stitch(record: AttentionRecord, windows: Windows) -> Blocks:
    """The block-diagonal chain (B, H, N, N) of a record, N = W · n tokens in the order of ``windows.layout``.

    Raises:
        CaptureError: the attention has a sink.
        ChainError: as for any chain: a fully masked row, NaN.
    """
    if record.sinks is not None:
        raise CaptureError(f"{record.name!r} has windows with an attention sink, expected windows without; {CURE}")
    count, heads = len(windows.index), windows.heads or record.shape[-3]
    shape = (record.shape[:-2].numel() // (count * heads), count, heads)
    if record.q is None or record.k is None:
        assert record.weights is not None
        return Blocks(from_weights(record.weights.reshape(*shape, *record.shape[-2:])), windows.index)
    q, k = (t.reshape(*shape[:2], -1, *t.shape[-2:]) for t in (record.q, record.k))
    mask = None if record.mask is None else _unflattened(record.mask, len(record.shape), shape)
    return Blocks(from_query_key(q, k, record.scale, mask, record.is_causal), windows.index)


def _unflattened(mask: Tensor, ndim: int, shape: tuple[int, int, int]) -> Tensor:
    """A mask that broadcasts to the record's ``ndim`` dimensions as one that broadcasts to (B, W, H, n, n)."""
    mask = mask.reshape((1,) * (ndim - mask.ndim) + mask.shape)
    flat = 6 - ndim  # leading dimensions of (B, W, H) that the record has in one
    if flat == 1:
        return mask
    leading = shape[:flat] if mask.shape[0] > 1 else (1,) * flat
    return mask.reshape(*leading, *mask.shape[1:])
