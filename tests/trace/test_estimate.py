"""Memory: told before a run, and an error instead of none left."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from tokenrank.errors import CaptureError, InputError
from tokenrank.memory import free_bytes
from tokenrank.recording import budget
from tokenrank.trace import Trace, capture

from .models import SIZES, llama, peaky

IDS = torch.randint(3, 60, (2, 9))


def bert(attention: str = "sdpa") -> nn.Module:
    model = peaky(hf.BertModel(hf.BertConfig(**SIZES)))
    model.set_attn_implementation(attention)
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_dry_run_tells_what_a_run_takes(attention: str, padded: bool) -> None:
    model = bert(attention)
    mask = torch.ones_like(IDS)
    mask[1, 5:] = 0 if padded else 1
    with torch.no_grad(), capture(model, device="meta") as dry:
        model(IDS, attention_mask=mask)
    with torch.no_grad(), capture(model) as trace:
        for _ in range(3):
            model(IDS, attention_mask=mask)
    told, took = dry.estimate(steps=3), trace.estimate()
    assert all(t.is_meta for record in dry.records for t in record.tensors.values())
    assert 0 <= told.nbytes - took.nbytes < 3 * 4 * 81 * 2  # of a mask a dry run sees the shape alone
    assert took.nbytes >= 3 * 2 * 2 * 2 * 4 * 9 * 8 * 4
    assert told.records == took.records == 2
    assert told.dense_nbytes == took.dense_nbytes == 3 * 2 * (2 * 4 * 9 * 9) * 4
    assert told.fits is True
    assert "3 forward calls of 2 records" in str(told)
    assert "attention matrices would take" in str(told)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_model_on_meta_needs_no_arithmetic(attention: str) -> None:
    with torch.device("meta"):
        model = hf.BertModel(hf.BertConfig(**SIZES)).eval()
    model.set_attn_implementation(attention)
    with torch.no_grad(), capture(model) as dry:
        model(IDS.to("meta"))
    assert [tuple(r.shape) for r in dry.records] == [(2, 4, 9, 9)] * 2
    assert dry.estimate(device="cpu").nbytes == 2 * 2 * (2 * 4 * 9 * 8) * 4


def test_shapes_alone_are_no_chain() -> None:
    model = bert()
    with torch.no_grad(), capture(model, device="meta") as dry:
        model(IDS)
    with pytest.raises(CaptureError, match=r"holds shapes only.*another device="):
        dry[0]
    assert "2×4×9×9" in dry.summary()


def test_shared_memory_counts_once() -> None:
    model = llama()
    with torch.no_grad(), capture(model) as trace:
        model.generate(IDS[:1], max_new_tokens=10, do_sample=False, eos_token_id=None)
    assert trace.estimate().nbytes < sum(record.nbytes for record in trace.records)


def test_a_limit_stops_recording_and_keeps_what_was_recorded() -> None:
    model = bert()
    expected = model(IDS).last_hidden_state
    one = 2 * (2 * 4 * 9 * 8) * 4
    trace: Trace | None = None

    def run() -> None:
        nonlocal trace
        with torch.no_grad(), capture(model, max_bytes=3 * one) as trace:
            for _ in range(3):
                assert torch.equal(model(IDS).last_hidden_state, expected)

    with pytest.raises(CaptureError) as caught:
        run()
    assert trace is not None
    assert len(trace.records) == 3
    for part in ("'encoder.layer.1.attention.self'", "max_bytes allows 13.5 KiB", "reduce=", "trace.estimate()"):
        assert part in str(caught.value)
    trace[0].tokenrank()  # is whole


def test_a_full_machine_is_an_error_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert()
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(budget, "_SEEN", 2000)
    with pytest.raises(CaptureError, match="cpu has 1000 bytes free"), torch.no_grad(), capture(model):
        model(IDS)
    assert model(IDS).last_hidden_state.isfinite().all()


def test_free_memory_is_that_of_this_machine() -> None:
    free = free_bytes()
    assert free is None or 2**20 < free < 2**50
    assert free_bytes("meta") is None


@pytest.mark.parametrize("limit", [0, -5, True, 2.5])
def test_limits_that_cannot_be_used(limit: int) -> None:
    with pytest.raises(InputError, match="max_bytes"), capture(bert(), max_bytes=limit):
        pass
