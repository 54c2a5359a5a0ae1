"""Weights that generate() returned, joined to one chain, against one forward of the same model over the whole text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.errors import CaptureError, ChainError
from tokenrank.layout import TokenLayout
from tokenrank.trace.external import from_attentions

from .models import SIZES, llama, mistral, peaky

NEW = 5
RETURNED = {"output_attentions": True, "return_dict_in_generate": True, "do_sample": False, "eos_token_id": None}
CACHES = [None, "static"]


def eager(model: nn.Module) -> nn.Module:
    model.set_attn_implementation("eager")
    return model


def gpt2() -> nn.Module:
    config = hf.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=64, bos_token_id=1, eos_token_id=None
    )
    return eager(peaky(hf.GPT2LMHeadModel(config)))


def qwen() -> nn.Module:
    return eager(peaky(hf.Qwen3ForCausalLM(hf.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8))))


def t5() -> nn.Module:
    config = hf.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=60, decoder_start_token_id=0
    )
    return eager(peaky(hf.T5ForConditionalGeneration(config)))


BOTH = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 60}  # fmt: skip


def bart() -> nn.Module:
    config = hf.BartConfig(**BOTH, max_position_embeddings=64, decoder_start_token_id=2, forced_eos_token_id=None)
    return eager(peaky(hf.BartForConditionalGeneration(config)))


def whisper() -> nn.Module:
    config = hf.WhisperConfig(
        **BOTH, max_source_positions=20, max_target_positions=40, num_mel_bins=8, decoder_start_token_id=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=59,
    )  # fmt: skip
    return eager(peaky(hf.WhisperForConditionalGeneration(config)))


def generated(model: Any, ids: Tensor, cache: str | None = None, **options: Any) -> Any:
    options |= {} if cache is None else {"cache_implementation": cache}
    with torch.no_grad():
        return model.generate(ids, max_new_tokens=NEW, pad_token_id=0, **RETURNED, **options)


DECODERS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": gpt2,
    "llama": lambda: llama("eager"),
    "qwen": qwen,
    "window, felt": lambda: mistral("eager", 4),
    "window, reached": lambda: mistral("eager", 8),
}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", DECODERS)
def test_prompts_of_different_lengths(name: str, cache: str | None) -> None:
    """A batch with padding on the left: each sample is its text alone, as the model reads it in one forward."""
    model, ids = DECODERS[name](), torch.randint(3, 60, (3, 6))
    padding = torch.tensor([[1] * 6, [0, 0] + [1] * 4, [0] * 5 + [1]])
    outputs = generated(model, ids, cache, attention_mask=padding)
    trace = from_attentions(outputs)
    assert trace.names == ["attentions.0", "attentions.1"]
    both = trace.decoded()
    assert [tuple(r.shape) for r in both.records] == [(3, 4, 10, 10)] * 2
    for sample, pads in enumerate((0, 2, 5)):
        with torch.no_grad():
            alone = model(outputs.sequences[sample : sample + 1, pads:-1], output_attentions=True, use_cache=False)
        for layer, own in enumerate(alone.attentions):
            for chain in (
                both.select(sample=sample)[layer],
                trace.select(sample=sample - 3).decoded().select(sample=0)[layer],
            ):
                assert chain.shape == own.shape == (1, 4, 10 - pads, 10 - pads)
                assert chain.is_causal
                torch.testing.assert_close(chain.to_dense(), own, rtol=0, atol=2e-5)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", DECODERS)
def test_one_text(name: str, cache: str | None) -> None:
    model = DECODERS[name]()
    outputs = generated(model, torch.randint(3, 60, (1, 6)), cache)
    with torch.no_grad():
        own = model(outputs.sequences[:, :-1], output_attentions=True, use_cache=False).attentions
    for given in (outputs, outputs.attentions):  # a batch of one has no places to change
        chain = from_attentions(given, layout=TokenLayout({"text": 10})).decoded()["attentions.1"]
        torch.testing.assert_close(chain.to_dense(), own[1], rtol=0, atol=2e-5)
        assert chain.layout == TokenLayout({"text": 10})


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("build", [t5, bart])
def test_encoder_and_decoder(build: Callable[[], Any], cache: str | None) -> None:
    model, ids = build(), torch.randint(3, 60, (2, 7))
    padding = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    outputs = generated(model, ids, cache, attention_mask=padding)
    with torch.no_grad():
        own = model(
            input_ids=ids, attention_mask=padding, decoder_input_ids=outputs.sequences[:, :-1], output_attentions=True,
            use_cache=False,
        )  # fmt: skip
    decoded = from_attentions(outputs).decoded()
    for part in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        for layer, weights in enumerate(own[part]):
            (record,) = [r for r in decoded.records if r.name == f"{part}.{layer}"]
            torch.testing.assert_close(record.weights, weights, rtol=0, atol=2e-5)
    one = decoded.select(sample=1)
    assert one["encoder_attentions.0"].num_tokens == 4
    torch.testing.assert_close(
        one["encoder_attentions.0"].to_dense(), own.encoder_attentions[0][1:, :, :4, :4], rtol=0, atol=2e-5
    )
    assert one["decoder_attentions.1"].num_tokens == NEW


@pytest.mark.parametrize("cache", CACHES)
def test_whisper(cache: str | None) -> None:
    model, sound = whisper(), torch.randn(2, 8, 40)
    prompt = torch.tensor([[2, 5, 6], [2, 7, 8]])
    outputs = generated(model, sound, cache, decoder_input_ids=prompt)
    text = torch.cat([prompt, outputs.sequences[:, -NEW:-1]], -1)
    with torch.no_grad():
        own = model(sound, decoder_input_ids=text, output_attentions=True, use_cache=False)
    decoded = from_attentions(outputs).decoded()
    for part in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        (record,) = [r for r in decoded.records if r.name == f"{part}.1"]
        torch.testing.assert_close(record.weights, own[part][1], rtol=0, atol=2e-5)


def test_sampled_answers_to_one_prompt_are_no_beams() -> None:
    model, ids = llama("eager"), torch.randint(3, 60, (1, 6))
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = model.generate(
            ids, max_new_tokens=NEW, pad_token_id=0, **{**RETURNED, "do_sample": True}, num_return_sequences=3
        )
        own = model(outputs.sequences[:, :-1], output_attentions=True, use_cache=False).attentions
    torch.testing.assert_close(from_attentions(outputs).decoded()[0].to_dense(), own[0], rtol=0, atol=2e-5)
    with pytest.raises(CaptureError, match=r"begin with the same weights.*return_dict_in_generate=True"):
        from_attentions(outputs.attentions).decoded()


@pytest.mark.parametrize("build", [lambda: llama("eager"), t5])
def test_beams_are_refused(build: Callable[[], Any]) -> None:
    outputs = generated(build(), torch.randint(3, 60, (2, 6)), num_beams=3)
    with pytest.raises(CaptureError, match=r"beams, which change places.*num_beams=1"):
        from_attentions(outputs).decoded()
    bare = outputs.get("attentions") or outputs.decoder_attentions
    with pytest.raises(CaptureError, match="nothing says whether they changed places"):
        from_attentions(bare).decoded()


def test_captured_weights_join_too() -> None:
    """Soft-capped logits have no q and k; some calls with q and k among others join as weights."""
    config = hf.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=4, attn_logit_softcapping=5.0)
    model = eager(peaky(hf.Gemma2ForCausalLM(config)))
    ids = torch.randint(3, 60, (2, 6))
    padding = torch.tensor([[1] * 6, [0, 0] + [1] * 4])
    with torch.no_grad(), tr.capture(model) as trace:
        text = model.generate(
            ids, attention_mask=padding, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    assert {r.kind for r in trace.records} == {"weights"}
    for sample, pads in enumerate((0, 2)):
        with torch.no_grad():
            alone = model(text[sample : sample + 1, pads:-1], output_attentions=True, use_cache=False)
        for layer, own in enumerate(alone.attentions):
            chain = trace.decoded().select(sample=sample)[layer]
            torch.testing.assert_close(chain.to_dense(), own, rtol=0, atol=2e-5)


def test_queries_and_keys_beside_weights() -> None:
    model, ids = llama("eager"), torch.randint(3, 60, (1, 6))
    with torch.no_grad(), tr.capture(model) as trace:
        text = model.generate(ids, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None)
    with torch.no_grad():
        own = model(text[:, :-1], output_attentions=True, use_cache=False).attentions
    records = list(trace.records)
    for place, record in enumerate(records):
        if record.step % 2:
            records[place] = from_attentions([record.to_dense()]).records[0]
            object.__setattr__(records[place], "name", record.name)
            object.__setattr__(records[place], "index", record.index)
    chain = tr.Trace(records).decoded()[1]
    torch.testing.assert_close(chain.to_dense(), own[1], rtol=0, atol=2e-5)


def steps(*shapes: tuple[int, int], keep: int | None = None) -> list[list[Tensor]]:
    """Weights of calls (n, M) of one causal text, with a window of ``keep`` old tokens."""
    generator, calls, total = torch.Generator().manual_seed(0), [], 0
    for n, m in shapes:
        total += n
        rows, columns = (
            torch.arange(total - n, total)[:, None],
            torch.arange(total - min(m, total), total - min(m, total) + m),
        )
        seen = (columns <= rows) & (columns >= rows - (total if keep is None else keep))
        weights = torch.rand(1, 2, n, m, generator=generator).masked_fill(~seen, 0)
        calls.append([weights / weights.sum(-1, keepdim=True)])
    return calls


def test_two_texts() -> None:
    growing = [*steps((4, 4), (1, 5)), *steps((3, 3), (1, 4), (1, 5))]
    static = [*steps((4, 9), (1, 9)), *steps((3, 9), (1, 9), (1, 9))]
    for calls in (growing, static):
        assert [r.shape[-1] for r in from_attentions(calls).decoded().records] == [5, 5]


def test_a_window_of_old_tokens() -> None:
    decoded = from_attentions(steps((4, 4), (1, 4), (1, 4), keep=3)).decoded()
    assert decoded.records[0].shape == (1, 2, 6, 6)
    assert bool((decoded.records[0].weights.sum(-1) - 1).abs().amax() < 1e-6)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([*steps((4, 4)), *steps((6, 6))[:1]], None),
        ([*steps((4, 4)), [steps((6, 6))[0][0][..., -1:, :]]], "sees 6 keys where there were 5 tokens"),
        (steps((4, 4), (1, 5), (1, 4), (1, 5)), "neither all nor always the last"),  # a cache that was cut
        (steps((4, 4), (3, 7), (1, 5)), "others were attended to before"),  # rejected candidates
        ([*steps((4, 9), (1, 9)), *steps((1, 9))], "gives itself no weight"),  # another text, of one token
        ([*steps((2, 2)), [torch.full((1, 3, 1, 3), 1 / 3)]], None),
    ],
)
def test_what_does_not_continue(calls: list[list[Tensor]], message: str | None) -> None:
    trace = from_attentions(calls)
    if message is None:  # other heads: another text
        assert len(trace.decoded().records) == 2
        return
    with pytest.raises(CaptureError, match=rf"do not continue each other.*{message}.*trace\.select\(step=…\)"):
        trace.decoded()


def test_padding_that_saw_a_cache_with_room_is_named_with_the_cure() -> None:
    ids, padding = torch.randint(3, 60, (2, 6)), torch.tensor([[1] * 6, [0, 0] + [1] * 4])
    decoded = from_attentions(generated(llama("eager"), ids, "static", attention_mask=padding)).decoded()
    with pytest.raises(ChainError, match=r"\[1, 0, 0\].*fully masked.*trace\.select\(sample=1\)"):
        decoded[0]
    assert decoded.select(sample=0)[0].num_tokens == 10


def test_uniform_attention_is_no_padding() -> None:
    """A model that knows nothing attends to all alike; no token of it is padding."""
    uniform = torch.full((1, 2, 5, 5), 0.2)
    assert from_attentions([uniform]).select(sample=0)[0].num_tokens == 5
    causal = torch.ones(1, 2, 5, 5).tril()
    assert from_attentions([causal / causal.sum(-1, keepdim=True)]).select(sample=0)[0].num_tokens == 5


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", DECODERS)
def test_uniform_rows_of_padding_are_refused_as_masked_ones_are(name: str, cache: str | None) -> None:
    model, ids = DECODERS[name](), torch.randint(3, 60, (3, 6))
    padding = torch.tensor([[1] * 6, [1] * 6, [0, 0, 0] + [1] * 3])
    outputs = generated(model, ids, cache, attention_mask=padding)
    trace = from_attentions(outputs)
    decoded = trace.decoded()
    message = r"row \[2, 0, 0\] of the attention of 'attentions.1' is fully masked: token 0 .*trace\.select\(sample=2\)"
    with pytest.raises(ChainError, match=message):
        decoded[1]
    if cache is None:
        with pytest.raises(ChainError, match=message):
            trace.select(step=0)[1]
    assert [decoded.select(sample=i)[1].num_tokens for i in range(3)] == [10, 10, 7]


def test_the_same_record_is_refused_captured_and_returned() -> None:
    model, ids = llama("eager"), torch.randint(3, 60, (2, 6))
    padding = torch.tensor([[1] * 6, [0, 0] + [1] * 4])
    with torch.no_grad(), tr.capture(model) as captured:
        outputs = model(ids, attention_mask=padding, output_attentions=True, use_cache=False)
    returned = from_attentions(outputs)
    words = []
    for trace in (captured, returned):
        with pytest.raises(ChainError) as error:
            trace[1]
        words.append(str(error.value).replace(trace.names[1], "layer"))
    assert words[0] == words[1]


def test_uniform_rows_that_are_no_padding() -> None:
    """A query without preferences, a step that is certain, text that may be read backwards: all are chains."""
    rows = torch.rand(1, 2, 5, 5).softmax(-1)
    rows[..., 1, :] = 0.2
    causal = torch.rand(1, 2, 5, 5).tril()
    causal = causal / causal.sum(-1, keepdim=True)
    causal[..., 4, :] = 0.2
    certain = torch.rand(1, 2, 5, 5)
    certain[..., 0] = 0
    certain = certain / certain.sum(-1, keepdim=True)
    certain[..., 0, :] = torch.tensor([0.0, 1, 0, 0, 0])
    two = certain.clone()
    two[..., 0, :] = torch.tensor([0.0, 0.5, 0.5, 0, 0])
    one_head = certain.clone()
    one_head[:, 0, 0] = 0.2
    for weights in (rows, causal, certain, two, one_head, torch.eye(5).expand(1, 2, 5, 5), rows[0], rows[0, 0]):
        trace = from_attentions([weights])
        assert trace[0].num_tokens == 5
    for weights in (rows, causal, torch.eye(5).expand(1, 2, 5, 5)):
        assert from_attentions([weights]).select(sample=0)[0].num_tokens == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 7, 96])
def test_padding_of_any_type_and_length(dtype: torch.dtype, count: int) -> None:
    n = 100
    seen = torch.ones(n, n, dtype=torch.bool).tril()
    seen[:, :count] = False
    logits = torch.randn(2, 3, n, n, dtype=torch.float64)
    weights = torch.stack([logits[0].masked_fill(~torch.ones_like(seen).tril(), -torch.inf), logits[1]])
    weights[1].masked_fill_(~seen, torch.finfo(torch.float64).min)
    trace = from_attentions([weights.softmax(-1).to(dtype)])
    with pytest.raises(ChainError, match=r"row \[1, 0, 0\] .*fully masked.*select\(sample=1\)"):
        trace[0]
    assert [trace.select(sample=i)[0].num_tokens for i in range(2)] == [n, n - count]
