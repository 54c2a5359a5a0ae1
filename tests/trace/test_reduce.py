"""Running means, against the mean of what was recorded."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tokenrank.chain import AttentionChain
from tokenrank.chain.token_map import TokenMap
from tokenrank.errors import CaptureError, InputError
from tokenrank.layout import TokenLayout
from tokenrank.recording import Recorder
from tokenrank.trace import Trace, capture

from .models import SIZES, gpt_oss, llama, peaky

IDS = torch.randint(3, 60, (2, 9))


def bert() -> nn.Module:
    return peaky(hf.BertModel(hf.BertConfig(**SIZES)))


def run(model: nn.Module, times: int = 2, **options: Any) -> Trace:
    with torch.no_grad(), capture(model, **options) as trace:
        for shift in range(times):
            model(IDS.roll(shift, 1))
    return trace


def test_mean_over_heads_layers_and_steps() -> None:
    model = bert()
    expected = torch.stack([chain.to_dense().mean(1) for chain in map(run(model).__getitem__, range(4))]).mean(0)
    trace = run(model, reduce="mean")
    assert trace.names == ["encoder.layer.*.attention.self"]
    assert trace.records[0].module == "mean of 4"
    chain = trace[0]
    assert chain.shape == (2, 1, 9, 9)
    assert chain.layout == TokenLayout({"text": 9})
    torch.testing.assert_close(chain.to_dense()[:, 0], expected)


def test_mean_over_the_steps_of_each_layer() -> None:
    model = bert()
    full = run(model)
    trace = run(model, reduce="mean", over="steps")
    assert trace.names == full.names
    for name in trace.names:
        both = [full.select(step=step)[name].to_dense().mean(1) for step in (0, 1)]
        torch.testing.assert_close(trace[name].to_dense()[:, 0], torch.stack(both).mean(0))


def test_function_of_the_chain() -> None:
    model = bert()
    full = run(model)

    def rank(chain: AttentionChain) -> TokenMap:
        return chain.aggregate("uniform").tokenrank()

    trace = run(model, reduce=rank)
    (name,) = trace.reduced
    result = trace.reduced[name]
    assert name == "encoder.layer.*.attention.self"
    assert isinstance(result, TokenMap)
    assert result.layout == TokenLayout({"text": 9})
    expected = torch.stack([rank(full[i]).values for i in range(4)]).mean(0)
    torch.testing.assert_close(result.values, expected)
    assert not trace.records

    tensors = run(model, reduce=lambda chain: chain.lambda2().values, over="steps").reduced
    assert list(tensors) == full.names
    assert all(isinstance(value, Tensor) and value.shape == (2, 4) for value in tensors.values())


def test_grouped_causal_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenrank.trace.reduce._PIECE", 1)  # one group of heads at a time
    model = llama()
    padding = torch.ones_like(IDS)
    padding[1, 6:] = 0
    for mask in (None, padding):
        with torch.no_grad(), capture(model) as full:
            model(IDS, attention_mask=mask, use_cache=False)
        with torch.no_grad(), capture(model, reduce="mean") as trace:
            model(IDS, attention_mask=mask, use_cache=False)
        expected = torch.stack([full[i].to_dense().mean(1) for i in (0, 1)]).mean(0)
        torch.testing.assert_close(trace[0].to_dense()[:, 0], expected)


def test_sinks_stay_in_the_mean() -> None:
    model = gpt_oss()
    with torch.no_grad(), capture(model) as full:
        model(IDS, use_cache=False)
    with torch.no_grad(), capture(model, reduce="mean") as trace:
        model(IDS, use_cache=False)
    expected = torch.stack([full[i].to_dense().mean(1) for i in (0, 1)]).mean(0)
    torch.testing.assert_close(trace[0].to_dense()[:, 0], expected)
    assert trace[0].layout == TokenLayout({"sink": 1, "text": 9}, special=(0,))


def test_negative_layers_and_heads() -> None:
    model = bert()
    full = run(model, layers=-1, heads=[1, 3])
    trace = run(model, layers=-1, heads=[1, 3], reduce="mean")
    expected = torch.stack([full[i].to_dense().mean(1) for i in (0, 1)]).mean(0)
    torch.testing.assert_close(trace[0].to_dense()[:, 0], expected)


def test_cross_attention_has_a_mean_but_no_chain() -> None:
    config = hf.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=60)
    model = peaky(hf.T5Model(config))
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS[:, :4], "use_cache": False}
    with torch.no_grad(), capture(model, layers="*EncDecAttention") as full:
        model(**inputs)
    with torch.no_grad(), capture(model, layers="*EncDecAttention", reduce="mean") as trace:
        model(**inputs)
    expected = torch.stack([r.to_dense().mean(1) for r in full.records]).mean(0)
    torch.testing.assert_close(trace.records[0].to_dense()[:, 0], expected)
    with (
        torch.no_grad(),
        pytest.raises(CaptureError, match=r"function of chains.*rectangular, 4 queries and 9 keys"),
        capture(model, layers="*EncDecAttention", reduce=lambda chain: chain.tokenrank()),
    ):
        model(**inputs)


def test_windows_and_heads_in_one_dimension() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16, "output_channels": 8}
    config = hf.SamVisionConfig(
        **sizes, image_size=32, patch_size=8, window_size=2, global_attn_indexes=[1], num_pos_feats=8
    )
    config._attn_implementation = "eager"
    model = peaky(hf.models.sam.modeling_sam.SamVisionEncoder(config))
    picture = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), capture(model, layers=0) as full:
        model(picture)
    with torch.no_grad(), capture(model, layers=0, reduce="mean") as trace:
        model(picture)
    assert len(full.records[0].shape) == 3
    assert full[0].shape == (2, 2, 16, 16)
    torch.testing.assert_close(trace[0].to_dense()[:, 0], full[0].to_dense().mean(1))


def test_no_more_than_one_record_lives() -> None:
    model = bert()
    alive: list[weakref.ref[Tensor]] = []

    def look(chain: AttentionChain) -> Tensor:
        gc.collect()
        assert sum(ref() is not None for ref in alive) == 0
        alive.append(weakref.ref(chain.operator.q))  # type: ignore[attr-defined]
        return chain.lambda2().values

    trace = run(model, 3, reduce=look)
    assert len(alive) == 6
    assert len(trace.reduced) == 1


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    model = bert()
    with torch.no_grad(), Recorder(model, on_record=lambda record: seen.append(record.q.untyped_storage().nbytes())):
        model(IDS)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduce": "median"}, "reduce = 'median', expected 'mean'"),
        ({"reduce": "mean", "over": "layers"}, "over = 'layers', expected 'all'"),
    ],
)
def test_arguments_that_cannot_be_used(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words), capture(bert(), **options):
        pass


def test_function_that_fails_or_returns_something_else_does_not_reach_the_model() -> None:
    model = bert()
    expected = model(IDS).last_hidden_state
    for function, words in ((lambda chain: 3, "returned a int"), (lambda chain: 1 / 0, "ZeroDivisionError")):
        with pytest.raises(CaptureError, match=words), capture(model, reduce=function):  # type: ignore[arg-type]
            assert torch.equal(model(IDS).last_hidden_state, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_autocast_the_mean_is_that_of_the_rounded_queries(mode: Any) -> None:
    model = bert()
    with mode(), torch.autocast("cpu", dtype=torch.bfloat16), capture(model) as full:
        model(IDS)
    with mode(), torch.autocast("cpu", dtype=torch.bfloat16), capture(model, reduce="mean") as trace:
        model(IDS)
    expected = torch.stack([full[i].to_dense().mean(1) for i in (0, 1)]).mean(0)
    torch.testing.assert_close(trace[0].to_dense()[:, 0], expected)
