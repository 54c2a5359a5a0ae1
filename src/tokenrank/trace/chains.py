"""From a record to the Markov chain that it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import CaptureError
from ..layout import TokenLayout
from ..models.windows import Windows
from ..recording import AttentionRecord
from ..windows import stitch

SINK = "sink"


def chain_of(record: AttentionRecord, layout: TokenLayout | None, windows: Windows | None = None) -> AttentionChain:
    """The chain of a square record.

    Attention within windows becomes one chain on the whole picture, in which no step leaves its window.

    With a learned sink the chain has one token more, the sink, at place 0: every token goes there
    with the share that the sink takes from the softmax, and stays there. The rows are those of the
    model, so that nothing has to be renormalised; ``chain.restrict("text")`` drops it.

    Raises:
        CaptureError: only the shapes of the record are known (device "meta").
    """
    if any(tensor.is_meta for tensor in record.tensors.values()):
        raise CaptureError(
            f"the record of {record.name!r} holds shapes only, since it is on the device 'meta'; capture again with "
            "another device=, or leave it out"
        )
    if windows is not None:
        return AttentionChain.from_operator(stitch(record, windows), layout or windows.layout)
    if record.q is None or record.k is None:
        assert record.weights is not None
        return AttentionChain(record.weights, layout=layout)
    q, k, mask = record.q, record.k, record.mask
    if record.sinks is not None:
        q, k, mask = _with_sink(record, q, k, record.sinks)
        layout = None if layout is None else sink_layout(layout)
    return AttentionChain.from_qk(q, k, record.scale, mask, record.is_causal, layout=layout)


def sink_layout(layout: TokenLayout) -> TokenLayout:
    """``layout`` with the sink before it."""
    tokens = None if layout.tokens is None else ("<sink>", *layout.tokens)
    special = (0, *(i + 1 for i in layout.special))
    return TokenLayout({SINK: 1, **layout.spans}, layout.grids, tokens, special)


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
