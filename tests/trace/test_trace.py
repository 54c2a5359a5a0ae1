"""capture and Trace: from a model to chains."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn

from tokenrank.chain import AttentionChain
from tokenrank.errors import CaptureError, ChainError, InputError, LayoutError, NotFoundError
from tokenrank.layout import TokenLayout
from tokenrank.models import Model
from tokenrank.trace import Trace, capture

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
NAMES = [f"encoder.layer.{i}.attention.self" for i in range(3)]


def bert(attention: str = "sdpa") -> nn.Module:
    model = hf.BertModel(hf.BertConfig(**SIZES, vocab_size=60)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    model.set_attn_implementation(attention)
    return model


def vit() -> nn.Module:
    return hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES, image_size=32, patch_size=8, num_register_tokens=2)).eval()


def words(n: int = 7) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, 60, (2, n))}


def traced(model: nn.Module, *inputs: dict[str, Tensor], **options: Any) -> Trace:
    with torch.no_grad(), capture(model, **options) as trace:
        for one in inputs:
            model(**one)
    return trace


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_chains_are_the_models_attention(attention: str) -> None:
    model, inputs = bert("eager"), words()
    inputs["attention_mask"] = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    with torch.no_grad():
        expected = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(attention)
    trace = traced(model, inputs)
    assert list(trace) == trace.names == NAMES
    assert len(trace) == 3
    for name, weights in zip(trace, expected, strict=True):
        chain = trace[name]
        assert isinstance(chain, AttentionChain)
        assert chain.shape == weights.shape
        torch.testing.assert_close(chain.to_dense(), weights, rtol=0, atol=1e-5)
    assert [chain.shape for chain in trace.values()] == [w.shape for w in expected]


def test_weights_alone_make_a_chain() -> None:
    class Capped(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return torch.tanh(q @ q.mT).softmax(-1) @ q

    q = torch.randn(2, 3, 5, 4)
    trace = traced(Capped(), {"q": q})
    assert trace.records[0].kind == "weights"
    torch.testing.assert_close(trace[""].to_dense(), torch.tanh(q @ q.mT).softmax(-1))


def test_grouped_and_causal() -> None:
    config = hf.LlamaConfig(**SIZES, num_key_value_heads=2, vocab_size=60)
    trace = traced(hf.LlamaModel(config).eval(), words() | {"use_cache": False})
    assert trace[0].shape == (2, 4, 7, 7)
    assert trace[0].is_causal
    assert "causal" in trace.summary()


def test_ways_to_name_a_record() -> None:
    trace = traced(bert(), words())
    expected = trace[NAMES[1]].to_dense()
    for key in ("encoder.layer.1", "encoder.layer.1.attention", "*.layer.1.*", "*.1.*", 1, -2):
        assert torch.equal(trace[key].to_dense(), expected)
    assert NAMES[1] in trace
    assert "encoder.layer.1" in trace
    assert "encoder.layer.9" not in trace
    assert "encoder" not in trace
    assert 1 not in trace
    assert trace.get("encoder.layer.9") is None
    assert trace.get("encoder.layer.1") is not None


@pytest.mark.parametrize(
    ("key", "error", "words_in_message"),
    [
        ("encoder.layer.7", NotFoundError, ["'encoder.layer.7'", "nearest", NAMES[0]]),
        ("encoder.layer", NotFoundError, ["means 3 attention modules", NAMES[2]]),
        ("encoder.laye", NotFoundError, ["no attention 'encoder.laye'"]),
        (3, NotFoundError, ["trace[3] of 3 records", "-3 … 2"]),
        (-4, NotFoundError, ["trace[-4]"]),
        (True, InputError, ["True"]),
        (None, InputError, ["None"]),
        (slice(2), InputError, ["slice"]),
    ],
)
def test_keys_that_find_nothing(key: Any, error: type[Exception], words_in_message: list[str]) -> None:
    trace = traced(bert(), words())
    with pytest.raises(error) as caught:
        trace[key]
    for part in words_in_message:
        assert part in str(caught.value)


def test_several_forward_calls() -> None:
    model, first, second = bert(), words(5), words(6)
    trace = traced(model, first, second)
    assert len(trace) == 3
    assert len(trace.records) == 6
    with pytest.raises(
        CaptureError, match=r"recorded 2 times, in 2 forward calls.*trace\.select\(step=0\).*trace\[1\]"
    ):
        trace["encoder.layer.1"]
    assert trace.select(step=1)["encoder.layer.1"].num_tokens == 6
    assert trace.select(step=-2)["encoder.layer.1"].num_tokens == 5
    assert trace[4].num_tokens == 6
    assert [c.num_tokens for c in (trace.select(step=[0])[0], trace.select(step=lambda s: s > 0)[0])] == [5, 6]
    assert repr(trace).startswith("Trace(3 modules, 6 records, 2 forward calls")


def test_module_that_runs_twice_in_one_forward() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = self.attention(x, x, x)[0]
            return x

    trace = traced(Twice(), {"x": torch.randn(1, 4, 16)})
    with pytest.raises(CaptureError, match=r"2 times, in 1 forward calls; take one by its number, such as trace\[0\]"):
        trace["attention"]
    assert trace[1].shape == (1, 2, 4, 4)


def test_select_layers() -> None:
    trace = traced(bert(), words(5), words(6))
    assert trace.select(layers="encoder.layer.[02]").names == [NAMES[0], NAMES[2]]
    assert trace.select(layers=-1, step=0).names == [NAMES[2]]
    assert trace.select(layers=[0, -1]).select(layers=1).names == [NAMES[2]]
    with pytest.raises(NotFoundError, match=r"'encoder\.layer\.8'"):
        trace.select(layers="encoder.layer.8")
    with pytest.raises(NotFoundError, match="layer 3: a forward made 3"):
        trace.select(layers=3)
    with pytest.raises(NotFoundError, match=r"step=2; the steps here are \[0, 1\]"):
        trace.select(step=2)


def test_capture_selects_before_it_records() -> None:
    trace = traced(bert(), words(), layers=["encoder.layer.0", -1], heads=[2, 0], dtype=torch.float64)
    assert trace.names == [NAMES[0], NAMES[2]]
    assert trace[0].shape == (2, 2, 7, 7)
    assert trace[0].dtype == torch.float64


def test_summary_is_a_plain_table() -> None:
    inputs = words() | {"attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
    lines = traced(bert(), inputs).summary().splitlines()
    assert lines[0].split() == ["name", "module", "kind", "shape", "mask", "step"]
    assert lines[2].split() == ["1", NAMES[1], "BertSelfAttention", "sdpa", "2×4×7×7", "bool", "2×1×1×7", "0"]
    assert len(lines) == 4


def test_cross_attention_stays_a_record() -> None:
    config = hf.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, vocab_size=60)
    inputs = words() | {"decoder_input_ids": torch.randint(3, 60, (2, 4)), "use_cache": False}
    trace = traced(hf.T5Model(config).eval(), inputs)
    assert trace["encoder"].shape == (2, 4, 7, 7)
    assert trace["decoder.block.0.layer.0"].shape == (2, 4, 4, 4)
    name = "decoder.block.0.layer.1.EncDecAttention"
    with pytest.raises(CaptureError, match=r"rectangular, 4 queries and 7 keys.*trace\.records\[2\]"):
        trace[name]
    assert trace.records[2].name == name
    assert trace.records[2].shape == (2, 4, 4, 7)


def test_fully_masked_rows_are_the_chains_to_refuse() -> None:
    class Masked(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            allowed = torch.ones(4, 4, dtype=torch.bool)
            allowed[2] = False
            return F.scaled_dot_product_attention(q, q, q, allowed)

    trace = traced(Masked(), {"q": torch.randn(1, 2, 4, 8)})
    with pytest.raises(ChainError, match="2"):
        trace[0]


# ---- which token is what


def test_layout_of_a_picture_that_is_not_square() -> None:
    trace = traced(vit(), {"pixel_values": torch.randn(1, 3, 32, 48)})
    layout = trace["model.layer.2"].layout
    assert layout == TokenLayout({"cls": 1, "registers": 2, "image": 24}, {"image": (4, 6)})


def test_layout_of_every_forward_is_its_own() -> None:
    sizes = [(32, 48), (48, 32), (32, 48)]
    trace = traced(vit(), *({"pixel_values": torch.randn(1, 3, *size)} for size in sizes))
    grids = [trace.select(step=i)[0].layout.grids["image"] for i in range(3)]
    assert grids == [(4, 6), (6, 4), (4, 6)]


def test_layout_of_a_text() -> None:
    assert traced(bert(), words())[0].layout == TokenLayout({"text": 7})


def test_layout_is_known_inside_the_block_and_after_the_model_is_gone() -> None:
    def run() -> tuple[Trace, weakref.ref[nn.Module]]:
        model = vit()
        with torch.no_grad(), capture(model) as trace:
            model(torch.randn(1, 3, 32, 48))
            assert trace[0].layout is not None
        return trace, weakref.ref(model)

    trace, model = run()
    assert trace[1].layout is not None
    gc.collect()
    assert model() is None  # a trace does not keep a model once its layouts are known
    assert trace.select(layers=-1)[0].layout is not None


class Unknown(nn.Module):
    """Seventeen tokens made of sixteen patches and their mean, all of them normalised over the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = torch.cat([x, x.mean(1, keepdim=True)], 1).cumsum(1)
        return self.attention(x, x, x)[0]


def test_ambiguous_layout_is_an_error_with_a_cure() -> None:
    inputs = {"image": torch.randn(1, 3, 32, 32)}
    trace = traced(Unknown(), inputs)
    with pytest.raises(LayoutError, match=r"17 tokens.*could not be followed \(cumsum\).*trace\.layout"):
        trace[0]
    with pytest.raises(LayoutError):
        trace[0]  # still
    layout = TokenLayout({"image": 16, "pad": 1}, {"image": (4, 4)})
    trace.layout = layout
    assert trace[0].layout == trace.select(step=0)[0].layout == layout
    trace.layout = False
    assert trace[0].layout is None
    assert traced(Unknown(), inputs, layout=False)[0].layout is None
    assert traced(Unknown(), inputs, layout=layout)[0].layout == layout


def test_layout_that_does_not_fit() -> None:
    trace = traced(bert(), words(), layout=TokenLayout({"text": 6}))
    with pytest.raises(LayoutError, match="6 tokens"):
        trace[0]
    with pytest.raises(InputError, match="layout is 3"):
        trace.layout = 3  # type: ignore[assignment]
    with pytest.raises(InputError, match="layout is 'text'"), capture(bert(), layout="text"):  # type: ignore[arg-type]
        pass


# ---- what can go wrong


def test_model_that_is_none() -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.first, self.second, self.name = nn.Linear(1, 1), nn.Linear(1, 1), "p"

    with pytest.raises(InputError, match=r"cannot capture a Pipeline.*'first', 'second'"), capture(Pipeline()):
        pass
    with pytest.raises(InputError, match="cannot capture a str"), capture("bert"):
        pass


def test_pipeline_stands_for_its_denoiser() -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.transformer, self.vae, self.text_encoder = bert(), nn.Linear(1, 1), nn.Linear(1, 1)

    pipeline = Pipeline()
    with capture(pipeline) as trace:
        pipeline.transformer(**words())
    assert trace.names == NAMES


def test_loaded_model_is_accepted() -> None:
    model = Model("tiny", bert(), "text")
    with capture(model) as trace:
        model.forward(words())
    assert trace.names == NAMES


def test_empty_block_names_the_reason() -> None:
    with pytest.raises(CaptureError, match="it was not called inside the block"), capture(bert()):
        pass


def test_error_of_the_block_comes_first_and_the_trace_stays() -> None:
    with pytest.raises(KeyError, match="mine"), capture(bert()):
        raise KeyError("mine")
    model = bert()
    model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), capture(model, layers=[0, "nothing"]) as trace:
        model(**words())
    assert trace.names == NAMES[:1]

    model = bert()
    with pytest.raises(CaptureError, match=r"'nothing'.*1 records"), capture(model, layers=[0, "nothing"]) as trace:
        model(**words())
    assert trace.names == NAMES[:1]


def test_nested_captures() -> None:
    model, inputs = bert(), words()
    with torch.no_grad():
        plain = model(**inputs).last_hidden_state
        with capture(model) as outer:
            with capture(model, layers=-1) as inner:
                out = model(**inputs).last_hidden_state
            again = model(**inputs).last_hidden_state
    assert torch.equal(plain, out)
    assert torch.equal(plain, again)
    assert len(outer.records) == 6
    assert inner.names == NAMES[2:]
    assert torch.equal(inner[0].to_dense(), outer[2].to_dense())


def test_chains_can_be_used_inside_the_block() -> None:
    model, inputs = bert(), words()
    with torch.no_grad(), capture(model) as trace:
        model(**inputs)
        rank = trace[-1].tokenrank().values
        model(**inputs)
    assert len(trace.records) == 6  # the chain's own attention calls are not the model's
    torch.testing.assert_close(rank, trace[5].tokenrank().values)
