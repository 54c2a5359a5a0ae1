"""One sample of a batch, without its padding."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from tokenrank.errors import NotFoundError
from tokenrank.trace import capture

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
