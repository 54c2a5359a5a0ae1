"""Learned sinks: one more state of the chain."""

from __future__ import annotations

import torch

from tokenrank.trace import capture

from .models import gpt_oss

IDS = torch.randint(3, 60, (2, 9))


def test_the_sink_is_a_token_of_its_own() -> None:
    model = gpt_oss()
    with torch.no_grad():
        expected = model(IDS, output_attentions=True, use_cache=False).attentions
    with torch.no_grad(), capture(model) as trace:
        model(IDS, use_cache=False)
    for record, weights in zip(trace.records, expected, strict=True):
        assert record.kind == "eager"
        assert record.sinks is not None
        torch.testing.assert_close(record.to_dense(), weights, rtol=0, atol=1e-5)
        dense = trace.chain_of(record).to_dense()
        assert dense.shape == (2, 4, 10, 10)
        torch.testing.assert_close(dense[..., 1:, 1:], weights, rtol=0, atol=1e-5)
        torch.testing.assert_close(dense[..., 1:, 0], 1 - weights.sum(-1), rtol=0, atol=1e-5)
        assert bool((dense[..., 0, 0] == 1).all())  # who is there stays there
        text = trace.chain_of(record).restrict("text").to_dense()
        torch.testing.assert_close(text, weights / weights.sum(-1, keepdim=True), rtol=0, atol=1e-5)


def test_of_chosen_heads() -> None:
    model = gpt_oss()
    with torch.no_grad(), capture(model) as full:
        model(IDS, use_cache=False)
    with torch.no_grad(), capture(model, heads=[3, 1]) as trace:
        model(IDS, use_cache=False)
    torch.testing.assert_close(trace[1].to_dense(), full[1].to_dense()[:, [3, 1]], rtol=0, atol=1e-6)
