"""Attention weights as libraries return them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.tiny import save_bert, save_gpt2
from tokenrank.errors import InputError
from tokenrank.layout import TokenLayout
from tokenrank.trace import from_attentions


def weights(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (3 * torch.randn(shape)).softmax(-1).to(dtype)


def bert(folder: Any, implementation: str = "eager") -> Any:
    from transformers import BertModel

    return BertModel.from_pretrained(save_bert(folder), attn_implementation=implementation).eval()


def test_outputs_of_transformers_are_the_weights_that_capture_sees(tmp_path):
    model, ids = bert(tmp_path), torch.randint(5, 14, (2, 7))
    with torch.no_grad(), tr.capture(model) as captured:
        outputs = model(ids, output_attentions=True)
    for given in (outputs, outputs.attentions, list(outputs.attentions), dict(enumerate(outputs.attentions))):
        trace = from_attentions(given, layout=TokenLayout({"text": 7}))
        assert len(trace) == 3
        for mine, seen in zip(trace.records, captured.records, strict=True):
            assert (mine.kind, mine.step, mine.index) == ("weights", 0, seen.index)
            torch.testing.assert_close(mine.weights, seen.to_dense())
        assert trace[2].layout == TokenLayout({"text": 7})
        torch.testing.assert_close(trace[1].to_dense(), captured[1].to_dense())
    assert from_attentions(outputs).names == ["attentions.0", "attentions.1", "attentions.2"]


def test_weights_are_shared_not_copied():
    given = weights(1, 2, 3, 3).requires_grad_()
    record = from_attentions([given]).records[0]
    assert record.weights.data_ptr() == given.data_ptr()
    assert not record.weights.requires_grad


def test_encoder_decoder_and_cross_attention_have_their_names():
    from transformers import BartConfig, BartModel

    sizes = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(vocab_size=20, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, **sizes)
    config._attn_implementation = "eager"
    model = BartModel(config).eval()
    with torch.no_grad():
        outputs = model(
            torch.arange(5)[None], decoder_input_ids=torch.arange(3)[None], output_attentions=True, use_cache=False
        )
    trace = from_attentions(outputs)
    shapes = {record.name: tuple(record.shape[-2:]) for record in trace.records}
    assert shapes == {
        "decoder_attentions.0": (3, 3),
        "decoder_attentions.1": (3, 3),
        "cross_attentions.0": (3, 5),
        "cross_attentions.1": (3, 5),
        "encoder_attentions.0": (5, 5),
    }
    assert trace["encoder_attentions"].num_tokens == 5


def test_outputs_inside_outputs_are_found():
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 1, "bos_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 8, "patch_size": 4}, projection_dim=8)
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    with torch.no_grad():
        outputs = model(torch.tensor([[0, 4, 1]]), torch.randn(1, 3, 8, 8), output_attentions=True)
    names = set(from_attentions(outputs).names)
    assert names == {"text_model_output.attentions.0", "vision_model_output.attentions.0"}


def test_generation_gives_one_forward_a_step(tmp_path):
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(save_gpt2(tmp_path), attn_implementation="eager").eval()
    outputs = model.generate(
        torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False, output_attentions=True,
        return_dict_in_generate=True, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    for given in (outputs, outputs.attentions):
        trace = from_attentions(given)
        assert [(r.name, r.step, r.index) for r in trace.records] == [
            (f"attentions.{layer}", step, layer) for step in range(3) for layer in range(2)
        ]
        assert [tuple(r.shape[-2:]) for r in trace.records[::2]] == [(3, 3), (1, 4), (1, 5)]
        assert trace.records[0].forward is trace.records[1].forward
        assert trace.select(step=0)["attentions.1"].is_causal
    renamed = from_attentions(outputs.attentions, names=["first", "second"])
    assert [r.name for r in renamed.records] == ["first", "second"] * 3


def test_arrays_and_mappings_are_taken():
    numbers = weights(2, 4, 4).numpy()
    trace = from_attentions({"a.b": numbers, "c": [numbers, torch.from_numpy(numbers)]})
    assert trace.names == ["a.b", "c.0", "c.1"]
    assert np.array_equal(trace["a.b"].to_dense().numpy(), numbers)
    big_endian = numbers.astype(">f4")
    assert np.array_equal(from_attentions(big_endian)["attentions"].to_dense().numpy(), numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_of_every_type_is_accepted(dtype):
    given = weights(2, 3, 300, 300, dtype=dtype)
    assert from_attentions([given])[0].num_tokens == 300


def test_a_model_that_keeps_no_weights_is_named_with_the_cure(tmp_path):
    model = bert(tmp_path, "sdpa")
    with torch.no_grad():
        outputs = model(torch.tensor([[5, 6]]))
    for given in (None, [None, None], (None,), {"a": None}, outputs, [], {}, ()):
        with pytest.raises(InputError, match=r"attn_implementation='eager'.*tr\.capture"):
            from_attentions(given)


def damaged(row: list[float]) -> Tensor:
    given = torch.full((1, 2, 3, 3), 1 / 3)
    given[0, 1, 2] = torch.tensor(row)
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.randn(2, 3, 3), "look like logits"),
        (torch.rand(2, 3, 3) * 10, "look like logits"),
        (torch.full((2, 2), float("-inf")), "look like logits"),
        (torch.tensor([[0.9, 0.05], [0.1, 0.95]]) * 0.7, "sink .* dropout"),
        (torch.nn.functional.dropout(torch.full((1, 2, 40, 40), 1 / 40), 0.1), "dropout"),
        (damaged([0, 0, 0]), "row of zeros"),
        (damaged([float("nan"), 0, 0]), "NaN"),
        (damaged([0.4, 0.4, 0.1]), r"row \[0, 1, 2\] sums to 0.9"),
        (torch.tensor([[0.9, 0.5], [0.1, 0.5]]), "transpose"),
        (torch.ones(3), "shape"),
        (torch.ones(0, 0), "shape"),
        (torch.eye(3, dtype=torch.int64), "int64"),
        (torch.eye(3, dtype=torch.complex64), "complex64"),
        (torch.eye(3).to_sparse(), "dense"),
        (torch.eye(3, device="meta"), "meta"),
        (np.array(["a"]), "no array of numbers"),
    ],
)
def test_what_is_no_attention_is_refused_with_the_likely_reason(given, message):
    with pytest.raises(InputError, match=message):
        from_attentions([given])


def test_other_arguments_that_do_not_fit():
    good = weights(1, 2, 3, 3)
    with pytest.raises(InputError, match="1 names for 2 records"):
        from_attentions([good, good], names=["a"])
    with pytest.raises(InputError, match="sequence of strings"):
        from_attentions([good], names="a")
    with pytest.raises(InputError, match="which has names already"):
        from_attentions({"a": good}, names=["b"])
    with pytest.raises(InputError, match="expected a tensor or an array"):
        from_attentions([3])
    with pytest.raises(InputError, match="a str, expected"):
        from_attentions("attentions")
    with pytest.raises(InputError, match="layout is"):
        from_attentions([good], layout=3)  # type: ignore[arg-type]
