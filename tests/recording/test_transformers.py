"""Records against the weights that transformers reports itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tokenrank.recording import Recorder

from .reference import recorded, weights_of

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
IMAGE = {**SIZES, "image_size": 32, "patch_size": 8}
TEXT = {**SIZES, "vocab_size": 60}


def pixels() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, 32, 48)}


def words(padding: str | None = "right") -> dict[str, Tensor]:
    ids = torch.randint(3, 60, (2, 9))
    mask = torch.ones_like(ids)
    if padding == "right":
        mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def large_enough(model: nn.Module) -> nn.Module:
    """Initial weights are so small that all attention is uniform: make it peaky, so that mistakes show."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]]]] = {
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**IMAGE)), lambda: pixels() | {"interpolate_pos_encoding": True}),
    "dinov2 with registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**IMAGE, num_register_tokens=3)),
        pixels,
    ),
    "dinov3": (lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**IMAGE, num_register_tokens=4)), pixels),
    "clip vision": (
        lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**IMAGE)),
        lambda: pixels() | {"interpolate_pos_encoding": True},
    ),
    "bert, padded": (lambda: hf.BertModel(hf.BertConfig(**TEXT)), words),
    "llama, grouped heads": (
        lambda: hf.LlamaModel(hf.LlamaConfig(**TEXT, num_key_value_heads=2)),
        lambda: words(None) | {"use_cache": False},
    ),
    "llama, grouped heads, padded": (
        lambda: hf.LlamaModel(hf.LlamaConfig(**TEXT, num_key_value_heads=2)),
        lambda: words() | {"use_cache": False},
    ),
    "gpt2": (
        lambda: hf.GPT2Model(hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=32)),
        lambda: words() | {"use_cache": False},
    ),
}
FLEX = ("vit", "bert, padded", "llama, grouped heads", "llama, grouped heads, padded")
PLAIN = [(name, attention) for name in MODELS for attention in ("sdpa", "eager")]


@pytest.fixture(autouse=True)
def undisturbed_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("name", "attention"), PLAIN + [(name, "flex_attention") for name in FLEX])
def test_record_is_the_models_own_attention(name: str, attention: str) -> None:
    build, make_inputs = MODELS[name]
    model, inputs = large_enough(build()), make_inputs()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(attention)

    _, records = recorded(model, **inputs)

    assert {r.kind for r in records} == {{"flex_attention": "flex"}.get(attention, attention)}
    assert len(records) == len(expected) == 2
    for record, weights in zip(records, expected, strict=True):
        assert record.shape == weights.shape
        assert weights.amax() > 0.5  # peaky: a wrong scale or mask could not hide
        torch.testing.assert_close(weights_of(record), weights.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "attention"), PLAIN)
def test_output_is_bit_identical(name: str, attention: str) -> None:
    build, make_inputs = MODELS[name]
    model, inputs = large_enough(build()), make_inputs()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        before = model(**inputs).last_hidden_state
    during, _ = recorded(model, **inputs)
    with torch.no_grad():
        after = model(**inputs).last_hidden_state
    assert torch.equal(before, during.last_hidden_state)
    assert torch.equal(before, after)


def test_flex_output_is_that_of_uncompiled_flex() -> None:
    # without capture transformers compiles FlexAttention, whose rounding differs
    model, inputs = large_enough(MODELS["vit"][0]()), MODELS["vit"][1]()
    model.set_attn_implementation("flex_attention")
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = model(**inputs).last_hidden_state
    during, _ = recorded(model, **inputs)
    assert torch.equal(expected, during.last_hidden_state)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_names_are_module_paths(attention: str) -> None:
    model = MODELS["bert, padded"][0]()
    model.set_attn_implementation(attention)
    _, records = recorded(model, **words())
    assert [r.name for r in records] == ["encoder.layer.0.attention.self", "encoder.layer.1.attention.self"]
    assert [r.module for r in records] == ["BertSelfAttention"] * 2
    assert [(r.index, r.step) for r in records] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_t5_records_bias_and_cross_attention(attention: str) -> None:
    config = hf.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=60, decoder_start_token_id=0
    )
    model = large_enough(hf.T5Model(config))
    inputs = words() | {"decoder_input_ids": torch.randint(3, 60, (2, 5)), "use_cache": False}
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(**inputs, output_attentions=True)
        plain = model(**inputs).last_hidden_state
    model.set_attn_implementation(attention)
    with torch.no_grad():
        plain = model(**inputs).last_hidden_state
    out, records = recorded(model, **inputs)
    assert torch.equal(plain, out.last_hidden_state)

    decoder = [w for pair in zip(own.decoder_attentions, own.cross_attentions, strict=True) for w in pair]
    expected = [*own.encoder_attentions, *decoder]
    assert len(records) == len(expected) == 6
    for record, weights in zip(records, expected, strict=True):
        torch.testing.assert_close(weights_of(record), weights.double(), rtol=0, atol=1e-5)
    assert [r.is_square for r in records] == [True, True, True, False, True, False]
    assert records[0].scale == 1.0
    assert records[0].mask is not None
    assert records[0].mask.shape[-3] == 4  # the bias differs from head to head
    assert records[3].name == "decoder.block.0.layer.1.EncDecAttention"


def test_causal_without_padding_needs_no_mask() -> None:
    build, make_inputs = MODELS["llama, grouped heads"]
    _, records = recorded(build(), **make_inputs())
    for record in records:
        assert record.is_causal
        assert record.mask is None
        assert record.q is not None
        assert record.k is not None
        assert (record.q.shape[1], record.k.shape[1]) == (4, 2)  # grouped heads are kept grouped


def test_padding_mask_is_stored_once_and_without_repetitions() -> None:
    model = hf.BertModel(hf.BertConfig(**TEXT))
    _, records = recorded(model, **words())
    first, second = (r.mask for r in records)
    assert first is second
    assert first is not None
    assert first.shape == (2, 1, 1, 9)


def test_generation_makes_one_step_a_token() -> None:
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, num_key_value_heads=2)).eval()
    ids = torch.randint(3, 60, (1, 5))
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        with Recorder(model) as recorder:
            model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
        recorder.check()
        assert [r.step for r in recorder.records] == [0, 0, 1, 1, 2, 2], attention
        assert [r.is_square for r in recorder.records] == [True] * 2 + [False] * 4
        assert recorder.records[0].shape == (1, 4, 5, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_eager_is_recognised(dtype: torch.dtype) -> None:
    build, make_inputs = MODELS["vit"]
    model = large_enough(build()).to(dtype)
    model.set_attn_implementation("eager")
    inputs = make_inputs()
    _, records = recorded(model, **inputs | {"pixel_values": inputs["pixel_values"].to(dtype)})
    assert [r.kind for r in records] == ["eager", "eager"]
    assert all(r.q is not None and r.q.dtype == dtype for r in records)


def test_autocast_is_recognised_and_left_alone() -> None:
    build, make_inputs = MODELS["vit"]
    inputs = make_inputs()
    for attention in ("sdpa", "eager"):
        model = large_enough(build())
        model.set_attn_implementation(attention)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            before = model(**inputs).last_hidden_state
            with Recorder(model) as recorder:
                during = model(**inputs).last_hidden_state
        recorder.check()
        assert torch.equal(before, during)
        assert [r.kind for r in recorder.records] == [attention] * 2


def test_inference_mode_leaves_ordinary_tensors() -> None:
    build, make_inputs = MODELS["vit"]
    inputs = make_inputs()
    for attention in ("sdpa", "eager"):
        model = large_enough(build())
        model.set_attn_implementation(attention)
        with torch.inference_mode():
            before = model(**inputs).last_hidden_state
            with Recorder(model) as recorder:
                during = model(**inputs).last_hidden_state
        assert torch.equal(before, during)
        record = recorder.records[0]
        assert record.kind == attention
        assert record.q is not None
        assert not record.q.is_inference()
        record.q.requires_grad_()  # an inference tensor would refuse


def test_gradients_are_the_same_and_records_have_none() -> None:
    build, make_inputs = MODELS["vit"]
    inputs = make_inputs()
    for attention in ("sdpa", "eager"):
        model = large_enough(build())
        model.set_attn_implementation(attention)

        def gradient(model: nn.Module = model) -> list[Tensor | None]:
            model.zero_grad()
            model(**inputs).last_hidden_state.square().mean().backward()
            return [p.grad for p in model.parameters()]

        before = gradient()
        with Recorder(model) as recorder:
            during = gradient()
        recorder.check()
        for a, b in zip(before, during, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        assert [r.kind for r in recorder.records] == [attention] * 2
        assert all(r.q is not None and not r.q.requires_grad for r in recorder.records)
