"""Each kind of attention that networks have, from the model to the page: what is stored is what the model did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr
from tests.trace.models import gpt_oss, llama, mistral, peaky
from tokenrank.explorer import stored, weights
from tokenrank.explorer.index import build
from tokenrank.explorer.measured import measured

hf = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60}
N = 12


def words() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(1, 60, (1, N), generator=torch.Generator().manual_seed(0))}


def pixels(side: int = 64) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))}


def t5() -> nn.Module:
    return peaky(hf.T5EncoderModel(hf.T5Config(d_model=32, d_kv=8, num_layers=2, num_heads=4, d_ff=48, vocab_size=60)))


def gemma2() -> nn.Module:
    config = hf.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, attn_logit_softcapping=2.0)
    config._attn_implementation = "eager"
    return peaky(hf.Gemma2Model(config))


def bloom() -> nn.Module:
    return peaky(hf.BloomModel(hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=60)))


def bert() -> nn.Module:
    return peaky(hf.BertModel(hf.BertConfig(**SIZES)))


def clip() -> nn.Module:
    sizes = {name: value for name, value in SIZES.items() if name != "vocab_size"}
    return peaky(hf.CLIPVisionModel(hf.CLIPVisionConfig(**sizes, image_size=64, patch_size=16)))


def swin() -> nn.Module:
    config = hf.SwinConfig(embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, patch_size=4, image_size=64)
    return peaky(hf.SwinModel(config))


def observed(model: nn.Module, inputs: dict[str, Tensor]) -> tr.Observation:
    return tr.observe(model, inputs=inputs)


def read_back(layer: dict[str, Any], parts: list[bytes], count: int, place: int) -> np.ndarray:
    """One stored head, as a page decodes it from the blob."""
    of = layer["stored"]
    at, length = of["bytes"]
    slice = b"".join(parts)[at : at + length]
    if of["kind"] == "weights":
        return weights.decoded(slice, count, of["type"], place).numpy()
    shape = stored.Shape(len(of["heads"]), of["keyHeads"], count, of["size"], of["type"])
    return stored.attention(stored.decoded(slice, shape, of["causal"]), place).numpy()


# model, inputs, kinds of the layers that are stored, key heads of those of queries and keys
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Tensor]], list[str], int]] = {
    "bert": (bert, words, ["qk", "qk"], 4),
    "llama, grouped and causal": (llama, words, ["qk", "qk"], 2),
    "llama by hand": (lambda: llama("eager"), words, ["qk", "qk"], 2),
    "llama in bfloat16": (lambda: llama().to(torch.bfloat16), words, ["qk", "qk"], 2),
    "mistral, sliding window": (lambda: mistral("sdpa", 4), words, ["weights", "weights"], 0),
    "mistral, window not reached": (lambda: mistral("sdpa", 40), words, ["qk", "qk"], 2),
    "gpt-oss, sinks": (gpt_oss, words, ["weights", "qk"], 2),
    "t5, relative positions": (t5, words, ["weights", "weights"], 0),
    "gemma 2, soft caps": (gemma2, words, ["weights", "weights"], 0),
    "bloom, alibi": (bloom, words, ["weights", "weights"], 0),
    "clip": (clip, pixels, ["qk", "qk"], 4),
    "swin, windows": (swin, pixels, ["weights"] * 4, 0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("small", [False, True])
def test_what_is_stored_is_what_the_model_did(case, small):
    make, inputs, kinds, key_heads = CASES[case]
    observation = observed(make(), inputs())
    index, parts = build(observation, layers="all", small=small)
    layers = [(sheet, layer) for sheet in index["sheets"] for layer in sheet["layers"]]
    assert [layer["stored"]["kind"] for _, layer in layers] == kinds
    records = {record.name: record for record in observation.trace.records}
    for sheet, layer in layers:
        of, errors, n = layer["stored"], layer["stored"]["errors"], sheet["count"]
        if of["kind"] == "qk":
            assert of["keyHeads"] == key_heads
        exact = observation.head_chains(layer["number"], tokens="all").operator.to_dense(torch.float64).numpy()
        dense = records[layer["name"]].to_dense(torch.float64)
        for place, head in enumerate(of["heads"]):
            back = read_back(layer, parts, n, place)
            off = np.abs(back - exact[head])
            assert off.max() <= errors["entry"]
            assert off.sum(-1).max() <= errors["bounce"]
            assert errors["entry"] < (0.1 if small else 3e-4)
            if not case.startswith("swin"):  # the record itself, without the chain that was made of it
                given = dense.reshape(-1, *dense.shape[-2:])[head].numpy()
                sink = n - given.shape[-1]
                assert np.abs(back[sink:, sink:] - given).max() <= errors["entry"] + 1e-6


def test_a_sink_takes_its_share():
    index, parts = build(observed(gpt_oss(), words()), layers="all")
    sheet = index["sheets"][0]
    assert sheet["spans"] == [{"name": "sink", "first": 0, "count": 1}, {"name": "text", "first": 1, "count": N}]
    assert sheet["special"] == [0]
    assert sheet["start"] == N
    back = read_back(sheet["layers"][1], parts, N + 1, 0)
    assert back[0].tolist() == [1.0, *[0.0] * N]
    assert (back[1:, 0] > 0).all()


def test_padding_is_left_out_as_the_library_does():
    inputs = {**words(), "attention_mask": (torch.arange(N) < 9).long()[None]}
    index, _ = build(observed(bert(), inputs), layers="all")
    assert index["sheets"][0]["count"] == 9
    assert [layer["stored"]["kind"] for layer in index["sheets"][0]["layers"]] == ["qk", "qk"]


def test_heads_that_are_not_kept_have_their_numbers_all_the_same():
    index, parts = build(observed(llama(), words()), layers=[1], heads=[3, 1])
    first, second = index["sheets"][0]["layers"]
    assert first["stored"] is None
    assert [head["kept"] for head in second["heads"]] == [False, True, False, True]
    assert second["stored"]["heads"] == [1, 3]
    assert [weight > 0 for weight in second["chain"]["mixture"]["weights"]] == [False, True, False, True]
    exact = observed(llama(), words()).head_chains(1, tokens="all").to_dense()[3]
    np.testing.assert_allclose(read_back(second, parts, N, 1), exact.numpy(), atol=2e-4)


def test_stages_of_one_network_are_sheets_that_share_their_picture():
    index, _ = build(observed(swin(), pixels()), layers="all")
    names = [sheet["name"] for sheet in index["sheets"]]
    assert [sheet["grid"]["rows"] for sheet in index["sheets"]] == [16, 8]
    assert [name.rpartition(", ")[2] for name in names] == ["16 × 16", "8 × 8"]
    assert [[layer["number"] for layer in sheet["layers"]] for sheet in index["sheets"]] == [[0, 1], [2, 3]]
    first, second = (sheet["picture"]["bytes"] for sheet in index["sheets"])
    assert first == second
    assert len(index["python"]) == 4  # lines for each sheet


def test_weights_of_a_chain_that_was_given():
    matrix = torch.rand(3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chain = tr.AttentionChain(matrix / matrix.sum(-1, keepdim=True), tr.TokenLayout.image(3, 3, cls_tokens=0))
    index, parts = build(tr.observe(chain))
    sheet = index["sheets"][0]
    assert (sheet["kind"], sheet["layers"][0]["stored"]["kind"]) == ("picture", "weights")
    np.testing.assert_allclose(read_back(sheet["layers"][0], parts, 9, 2), chain.to_dense()[2].numpy(), atol=2e-5)


def test_logits_that_are_too_large_for_so_few_bits_are_refused():
    generator = torch.Generator().manual_seed(0)
    q, k = (20 * torch.randn(1, 400, 64, generator=generator) for _ in range(2))
    chain = tr.AttentionChain.from_qk(q, k, layout=tr.TokenLayout.text([f"t{i}" for i in range(400)]))
    with pytest.raises(tr.errors.ChainError, match="too large for so few bits"):
        build(tr.observe(chain), small=True)


def test_attention_that_a_chain_forgot_is_refused(monkeypatch):
    """Were a term of the logits overlooked, no page would be written."""
    q, k = (torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    chain = tr.AttentionChain.from_qk(
        q, k, mask=torch.linspace(-1, 1, 64).reshape(8, 8), layout=tr.TokenLayout.text(list("abcdefgh"))
    )
    assert build(tr.observe(chain))[0]["sheets"][0]["layers"][0]["stored"]["kind"] == "weights"
    monkeypatch.setattr(stored, "obstacle", lambda operator: None)
    with pytest.raises(tr.errors.ChainError, match="another attention than was recorded"):
        build(tr.observe(chain))


@pytest.mark.parametrize(
    ("source", "layers"),
    [(tr.samples.path("chelsea"), [2, 3]), ("The cat sat on the mat because it was tired of walking.", [0, 1, 5])],
)
def test_the_bundled_networks_are_stored_within_what_is_promised(source, layers):
    observation = tr.observe(source)
    for number in layers:
        operator = observation.head_chains(number, tokens="all").operator
        heads = list(range(operator.batch[-1]))
        for type, entry, bounce, tokenrank in (("int16", 2e-4, 5e-4, 5e-4), ("int8", 4e-2, 8e-2, 4e-2)):
            slice, shape = stored.encoded(stored.factors(operator, heads), type)
            back = stored.decoded(slice, shape, False)
            errors = measured(operator, heads, lambda place, back=back: stored.attention(back, place), 0.99)
            assert errors.entry < entry
            assert errors.bounce < bounce
            assert errors.tokenrank < tokenrank
