"""Cached decoding joined into one chain, against one forward over the whole text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from tokenrank.errors import CaptureError
from tokenrank.layout import TokenLayout
from tokenrank.trace import Trace, capture

from .models import llama, mistral, peaky

NAME = "model.layers.1.self_attn"


def generated(model: Any, ids: Tensor, count: int = 5, **options: Any) -> tuple[Trace, Tensor]:
    with torch.no_grad(), capture(model) as trace:
        out = model.generate(ids, max_new_tokens=count, do_sample=False, pad_token_id=0, eos_token_id=None, **options)
    return trace, out[:, :-1]  # the last token was never read


def whole(model: Any, ids: Tensor, **options: Any) -> Trace:
    with torch.no_grad(), capture(model) as trace:
        model(ids, use_cache=False, **options)
    return trace


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_are_appended_as_tokens_come(attention: str) -> None:
    model, ids = llama(attention), torch.randint(3, 60, (2, 6))
    trace, text = generated(model, ids)
    assert len(trace.records) == 2 * 5
    decoded = trace.decoded()
    assert decoded.names == trace.names
    chain = decoded[NAME]
    assert chain.shape == (2, 4, 10, 10)
    assert chain.is_causal
    assert decoded.records[0].mask is None  # plain causality needs none
    torch.testing.assert_close(chain.to_dense(), whole(model, text)[NAME].to_dense(), rtol=0, atol=1e-5)
    assert chain.layout == TokenLayout({"text": 10})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padded_batch(attention: str) -> None:
    model, ids = llama(attention), torch.randint(3, 60, (2, 6))
    padding = torch.tensor([[1] * 6, [0, 0] + [1] * 4])
    trace, text = generated(model, ids, attention_mask=padding)
    mask = torch.cat([padding, torch.ones(2, 4, dtype=torch.long)], -1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = whole(model, text, attention_mask=mask, position_ids=positions)
    for sample in (0, 1):
        other = expected.select(sample=sample)[NAME]
        for chain in (trace.decoded().select(sample=sample)[NAME], trace.select(sample=sample).decoded()[NAME]):
            assert chain.num_tokens == other.num_tokens == (10, 8)[sample]
            torch.testing.assert_close(chain.to_dense(), other.to_dense(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("window", [3, 7])
def test_sliding_window(attention: str, window: int) -> None:
    model, ids = mistral(attention, window), torch.randint(3, 60, (1, 6))
    trace, text = generated(model, ids, 8)
    chain = trace.decoded()[NAME]
    expected = whole(model, text)[NAME].to_dense()
    assert expected[..., -1, 0].max() == 0  # the window is felt
    torch.testing.assert_close(chain.to_dense(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_static_cache(attention: str) -> None:
    model, ids = llama(attention), torch.randint(3, 60, (1, 6))
    trace, text = generated(model, ids, cache_implementation="static")
    chain = trace.decoded()[NAME]
    torch.testing.assert_close(chain.to_dense(), whole(model, text)[NAME].to_dense(), rtol=0, atol=1e-5)


def test_keys_of_a_growing_cache_are_kept_once() -> None:
    model, ids = llama(), torch.randint(3, 60, (1, 6))
    trace, _ = generated(model, ids, 40)
    keys = [r.k for r in trace.records if r.name == NAME]
    assert [k.shape[-2] for k in keys] == list(range(6, 46))
    storages = {k.untyped_storage().data_ptr(): k.untyped_storage().nbytes() for k in keys}
    assert sum(storages.values()) < 6 * keys[-1].nbytes  # not 40 / 2 times


def test_encoder_and_decoder() -> None:
    config = hf.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, vocab_size=60, decoder_start_token_id=0
    )
    model, ids = peaky(hf.T5ForConditionalGeneration(config)), torch.randint(3, 60, (2, 7))
    with torch.no_grad(), capture(model) as trace:
        out = model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
    with torch.no_grad(), capture(model) as expected:
        model(input_ids=ids, decoder_input_ids=out[:, :-1], use_cache=False)
    decoded = trace.decoded()
    assert [tuple(r.shape) for r in decoded.records] == [(2, 4, 7, 7), (2, 4, 4, 4), (2, 4, 4, 7)]
    for one, other in zip(decoded.records, expected.records, strict=True):
        assert one.name == other.name
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=0, atol=1e-5)


def test_two_texts_in_one_block() -> None:
    model = llama()
    with torch.no_grad(), capture(model) as trace:
        for length in (6, 4):
            model.generate(torch.randint(3, 60, (1, length)), max_new_tokens=3, do_sample=False, eos_token_id=None)
    decoded = trace.decoded()
    sizes = [chain.num_tokens for chain in (decoded.select(step=0)[0], decoded.select(step=-1)[0])]
    assert sizes == [8, 6]


def test_beams_that_change_places_are_refused() -> None:
    model = llama()
    with torch.no_grad(), capture(model) as trace:
        model.generate(torch.randint(3, 60, (1, 6)), max_new_tokens=8, num_beams=4, do_sample=False, eos_token_id=None)
    with pytest.raises(CaptureError, match=r"beams that changed places.*trace\.select\(step=…\)"):
        trace.decoded()


def test_the_error_names_the_cure() -> None:
    trace, _ = generated(llama(), torch.randint(3, 60, (1, 6)))
    with pytest.raises(CaptureError, match=r"recorded 5 times.*trace\.decoded\(\)"):
        trace[NAME]
    with pytest.raises(CaptureError, match=r"rectangular, 1 queries and 7 keys.*trace\.decoded\(\)"):
        trace.select(step=1)[NAME]


def test_chunked_prefill() -> None:
    model, ids = llama(), torch.randint(3, 60, (1, 9))
    with torch.no_grad(), capture(model) as trace:
        past = model(ids[:, :4], use_cache=True).past_key_values
        model(ids[:, 4:], past_key_values=past, use_cache=True)
    chain = trace.decoded()[NAME]
    torch.testing.assert_close(chain.to_dense(), whole(model, ids)[NAME].to_dense(), rtol=0, atol=1e-5)
