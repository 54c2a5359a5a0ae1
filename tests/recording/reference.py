"""The weights that a record stands for, by plain float64 arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenrank.recording import AttentionRecord, Recorder


def weights_of(record: AttentionRecord) -> Tensor:
    """(…, H, N, M) in float64."""
    if record.q is None or record.k is None:
        assert record.weights is not None
        return record.weights.double()
    q, k = record.q.double(), record.k.double()
    if q.ndim > 2 and k.shape[-3] != q.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    logits = record.scale * (q @ k.mT)
    if record.is_causal:
        logits = logits.masked_fill(~torch.ones(logits.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    if record.mask is not None:
        mask = record.mask
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.double()
    return logits.softmax(-1)


def recorded(model: nn.Module, *args: object, **kwargs: object) -> tuple[object, list[AttentionRecord]]:
    """A model's output and the records of one call, without gradients."""
    with torch.no_grad(), Recorder(model) as recorder:
        out = model(*args, **kwargs)
    recorder.check()
    return out, recorder.records
