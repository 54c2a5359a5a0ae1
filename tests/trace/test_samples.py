"""One sample of a batch, without its padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tokenrank.errors import ChainError, NotFoundError
from tokenrank.trace import capture
from tokenrank.trace.external import from_query_key, load_trace

from .models import SIZES, llama, peaky

IDS = torch.randint(3, 60, (3, 9))
MASK = torch.ones_like(IDS)
MASK[1, 6:] = 0
MASK[2, 2:] = 0


class Tokenizer:
    """As much of a tokenizer as token strings take."""

    all_special_ids = (int(IDS[1, 0]),)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"t{i}" for i in ids]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_is_dropped_with_its_rows(attention: str) -> None:
    model = peaky(hf.BertModel(hf.BertConfig(**SIZES)))
    model.set_attn_implementation(attention)
    with torch.no_grad(), capture(model, tokenizer=Tokenizer()) as trace:
        model(IDS, attention_mask=MASK)
    for sample, length in enumerate((9, 6, 2)):
        with torch.no_grad(), capture(model) as alone:
            model(IDS[sample : sample + 1, :length])
        chain = trace.select(sample=sample)[1]
        assert chain.shape == (1, 4, length, length)
        torch.testing.assert_close(chain.to_dense(), alone[1].to_dense(), rtol=0, atol=1e-5)
        assert chain.layout is not None
        assert chain.layout.tokens == tuple(f"t{i}" for i in IDS[sample, :length].tolist())
    assert trace.select(sample=1)[0].layout.special[0] == 0  # type: ignore[union-attr]
    assert trace[0].layout.tokens is None  # type: ignore[union-attr]  # the samples have other words
    assert trace.select(sample=-1)[0].num_tokens == 2


def test_causal_model_with_padding_on_the_left() -> None:
    model = llama()
    with torch.no_grad(), capture(model) as trace:
        model(IDS, attention_mask=MASK.flip(1), use_cache=False, position_ids=(MASK.flip(1).cumsum(1) - 1).clamp(0))
    with torch.no_grad(), capture(model) as alone:
        model(IDS[1:2, 3:], use_cache=False)
    torch.testing.assert_close(trace.select(sample=1)[0].to_dense(), alone[0].to_dense(), rtol=0, atol=1e-5)


def test_rows_of_padding_name_the_cure() -> None:
    """Padding on the left of a causal model may attend to nothing at all."""
    model = llama()
    allowed = MASK.flip(1)[:, None, None].bool() & torch.ones(9, 9).tril().bool()
    with torch.no_grad(), capture(model) as trace:
        model(IDS, attention_mask=allowed, use_cache=False)
    with pytest.raises(ChainError, match=r"fully masked.*trace\.select\(sample=…\)"):
        trace[0].to_dense()
    assert trace.select(sample=1)[0].num_tokens == 6


def test_sample_that_is_not_there() -> None:
    model = llama()
    with torch.no_grad(), capture(model) as trace:
        model(IDS, use_cache=False)
    with pytest.raises(NotFoundError, match="sample 3 of a batch of 3, expected -3 … 2"):
        trace.select(sample=3)


def test_token_strings_of_one_text() -> None:
    model = llama()
    with torch.no_grad(), capture(model, tokenizer=Tokenizer()) as trace:
        out = model.generate(IDS[:1], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert trace.select(step=0)[0].layout.tokens == tuple(f"t{i}" for i in IDS[0].tolist())
    layout = trace.decoded()[0].layout
    assert layout.tokens == tuple(f"t{i}" for i in out[0, :-1].tolist())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_error_for_padding_names_the_sample_that_has_it(attention: str) -> None:
    model, padding = llama(attention), MASK[[0, 2, 1]].flip(1)
    with torch.no_grad(), capture(model) as trace:
        model(IDS, attention_mask=padding, use_cache=False)
    message = r"row \[1, 0, 0\] of the attention of 'model.layers.1.*' is fully masked.*trace\.select\(sample=1\)"
    chains: list[Callable[[], object]] = [
        lambda: trace[1],
        lambda: trace["model.layers.1"],
        lambda: trace.chain_of(trace.records[1]),
        lambda: trace.select(layers=-1)[0],
        lambda: trace.decoded()[1],
        lambda: list(trace.values())[1],
    ]
    for chain in chains[:-1]:
        with pytest.raises(ChainError, match=message):
            chain()
    with pytest.raises(ChainError, match=r"layers.0.*trace\.select\(sample=1\)"):
        chains[-1]()
    assert trace.select(sample=1)[1].num_tokens == 2


def test_the_error_for_padding_from_files_and_hooks(tmp_path: Path) -> None:
    with torch.no_grad(), capture(model := llama()) as trace:
        model(IDS, attention_mask=MASK.flip(1), use_cache=False)
    trace.save(tmp_path / "trace.safetensors")
    q, k, seen = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4), torch.ones(2, 1, 1, 5, dtype=torch.bool)
    seen[1, ..., :2] = False
    hooks = from_query_key({"layer": {"q": q, "k": k, "mask": seen, "is_causal": True}})
    for other, sample, count in ((load_trace(tmp_path / "trace.safetensors"), 1, 6), (hooks, 1, 3)):
        with pytest.raises(ChainError, match=rf"fully masked.*trace\.select\(sample={sample}\)"):
            other[0]
        assert other.select(sample=sample)[0].num_tokens == count


def test_a_token_that_others_attend_to_is_no_padding() -> None:
    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    seen[1, 0, 3] = False
    trace = from_query_key({"layer": {"q": torch.randn(2, 2, 5, 4), "k": torch.randn(2, 2, 5, 4), "mask": seen}})
    for part in (trace, trace.select(sample=1)):
        with pytest.raises(ChainError, match=r"token 3 may attend to no key.*others attend to it"):
            part[0]


def test_rows_of_nan_are_padding_too() -> None:
    """Weights of a model that fills in −∞; ``from_attentions`` refuses them, ``capture`` has them."""

    class Model(nn.Module):
        def forward(self, x: Tensor, seen: Tensor) -> Tensor:
            return torch.tanh(x @ x.mT).masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0.0) @ x

    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    seen[1, ..., :2] = False
    with torch.no_grad(), capture(model := Model()) as trace:
        model(torch.randn(2, 3, 5, 4), seen)
    assert trace.records[0].kind == "weights"
    with pytest.raises(ChainError, match=r"row \[1, 0, 0\].*fully masked.*trace\.select\(sample=1\)"):
        trace[0]
    assert trace.select(sample=1)[0].shape == (1, 3, 3, 3)
    assert trace.select(sample=0)[0].num_tokens == 5
