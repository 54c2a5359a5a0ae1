"""All-MiniLM-L6-v2 on sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tests.real import oracles
from tokenrank.models import Model

pytestmark = pytest.mark.real

SENTENCE = "The children were waiting for their father, who had promised them a story about the old lighthouse."


def test_rows_are_the_networks_own_weights(minilm: Model, minilm_folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(minilm_folder)(SENTENCE, return_tensors="pt")
    network = AutoModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()
    with torch.no_grad():
        own = network(**inputs, output_attentions=True).attentions
    observation = tr.observe(SENTENCE, minilm)
    assert len(observation.layers) == len(own) == 6
    for layer, weights in enumerate(own):
        rows = observation.head_chains(layer, tokens="all").operator.to_dense(torch.float64)
        assert rows.shape == weights[0].shape == (12, *weights.shape[-2:])
        assert float((rows - weights[0].double()).abs().max()) < 1e-6, layer


def test_every_head_is_lapacks(minilm: Model) -> None:
    observation = tr.observe(SENTENCE, minilm)
    assert sum(oracles.check_heads(observation.head_chains(layer, tokens="all")) for layer in observation.layers) == 72


def test_a_long_text_too(minilm: Model) -> None:
    observation = tr.observe(" ".join([SENTENCE] * 20), minilm)
    chain = observation.head_chains(-1, tokens="all")
    assert chain.num_tokens > 350
    assert oracles.check_heads(chain) == 12


def test_pieces_are_named(minilm: Model) -> None:
    strings = tr.observe(SENTENCE, minilm).layout.tokens
    assert strings is not None
    assert strings[0] == "[CLS]"
    assert strings[-1] == "[SEP]"
    assert "lighthouse" in strings
