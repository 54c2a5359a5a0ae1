"""The bundled network that reads texts: loaded like any other, without a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertModel

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.models.load import BUNDLED
from training.text.card import card

FOLDER = Path(__file__).parents[2] / "src/tokenrank/models/bundled/text"
BRIDGE = "The old bridge across the river was closed because the engineers found deep cracks in it."


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load(BUNDLED, kind="text")


def test_it_is_a_bert_of_transformers(model: tr.Model) -> None:
    assert type(model.module) is BertModel
    assert (model.name, model.kind, model.max_tokens, model.attention) == ("bundled", "text", 512, "sdpa")
    assert all(parameter.dtype == torch.float32 for parameter in model.module.parameters())
    assert not model.module.training
    assert not model.forward(model.prepare(BRIDGE)).last_hidden_state.any()  # as its card says


def test_it_is_small_and_its_card_says_what_was_measured() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6.5e6
    figures = json.loads((FOLDER / "figures.json").read_text())
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == card(figures)
    for name, size in figures["bytes"].items():
        assert (FOLDER / name).stat().st_size == size
    assert max(layer["kl"] for layer in figures["layers"]) < 0.05
    assert "Apache License" in (FOLDER / "LICENSE").read_text()


def test_every_layer_is_a_chain_on_the_words(model: tr.Model) -> None:
    seen = tr.observe(BRIDGE, model)
    assert len(seen.layers) == 6
    assert seen.layer() == seen.layers[-1]
    assert seen.layout.special == (0, seen.layout.num_tokens - 1)
    chain = seen.chain()
    assert chain.layout is not None
    assert " ".join(chain.layout.tokens or ()).startswith("the old bridge across the river was closed")
    whole = torch.stack([seen.trace[-1][0].to_dense()[head].double() for head in range(12)])
    inner = whole[:, 1:-1, 1:-1]
    expected = (inner / inner.sum(-1, keepdim=True)).mean(0)
    torch.testing.assert_close(seen.chain(heads="uniform").to_dense().double(), expected, rtol=1e-5, atol=1e-7)


def test_the_words_on_top_make_sense(model: tr.Model) -> None:
    ranked = tr.observe(BRIDGE, model).chain().tokenrank()
    assert ranked.layout is not None
    tokens = ranked.layout.tokens or ()
    first = {tokens[i] for i in ranked.values.argsort(descending=True)[:6].tolist()}
    assert {"engineers", "bridge", "river"} <= first
    assert not first & {"the", "was", "in", "it", ".", "because"}


def test_characters_that_it_does_not_know_are_tokens_of_the_text(model: tr.Model) -> None:
    seen = tr.observe("the word 漢字 and ก", model)
    tokens = seen.chain().layout.tokens  # type: ignore[union-attr]
    assert tokens[:2] == ("the", "word")
    assert tokens.count("[UNK]") == 3
    assert seen.chain().num_tokens == seen.layout.num_tokens - 2


def test_a_masked_word_is_a_token_of_the_text(model: tr.Model) -> None:
    assert "[MASK]" in tr.observe("the [MASK] sat on the mat", model).chain().layout.tokens  # type: ignore[union-attr]


def test_texts_that_are_none(model: tr.Model) -> None:
    for text, words in (("", "the text is empty"), (" \n", "the text is empty"), ("word " * 511, "512 at most")):
        with pytest.raises(InputError, match=words):
            tr.observe(text, model)
    assert tr.observe("word " * 510, model).chain().num_tokens == 510


def test_there_is_one_for_pictures_and_one_for_texts() -> None:
    assert tr.load(BUNDLED).kind == tr.load(BUNDLED, kind="image").kind == "image"
    with pytest.raises(InputError, match="no bundled model reads 'txt', expected kind='image' or 'text'"):
        tr.load(BUNDLED, kind="txt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="size = 64"):
        tr.observe("a text of words", size=64)
