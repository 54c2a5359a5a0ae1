"""The bundled network of texts beside the whole one that it was cut out of: the card's figures, on other sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

import tokenrank as tr
from tokenrank.models import Model
from training.text.compare import distances

pytestmark = pytest.mark.real

FOLDER = Path(__file__).parents[2] / "src/tokenrank/models/bundled/text"
SENTENCES = (
    "The old bridge across the river was closed because the engineers found deep cracks in it.",
    "The children were waiting for their father, who had promised them a story about the old lighthouse.",
    "Every morning the fishing boats left the harbour before the sun had risen over the hills.",
    "She read the letter twice, folded it with care, and put it back into the drawer of the desk.",
    "A new law on the protection of forests was passed by the parliament after a long debate.",
    "When the water boils, add the rice, lower the heat and wait for fifteen minutes.",
    "The match was decided in the last minute by a goal that nobody had expected.",
    "An elephant never forgets where it has found water.",
    "His answer to the question was short, polite and completely wrong.",
    "Scientists measured the light of a distant star to learn what its planets are made of.",
)


@pytest.fixture(scope="module")
def kept(minilm: Model) -> list[int]:
    """Id of the bundled network → id of the whole one."""
    vocabulary = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    whole = minilm.tokenizer.get_vocab()
    assert list(vocabulary.values()) == list(range(8000))
    return [whole[piece] for piece in vocabulary]


def test_the_figures_of_the_card(minilm_folder: Path, kept: list[int]) -> None:
    whole, small = (tr.load(folder, attention="eager").module for folder in (minilm_folder, FOLDER))
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    found = distances(whole, small, kept, tokenizer, SENTENCES)  # type: ignore[arg-type]
    told = json.loads((FOLDER / "figures.json").read_text())["layers"]
    for layer, (now, then) in enumerate(zip(found, told, strict=True)):
        for name in ("kl", "total_variation", "on_cls_and_sep"):
            assert then[name] / 2 < now[name] < 2 * then[name], (layer, name)


def test_it_ranks_words_as_the_whole_network_does(minilm: Model, kept: list[int]) -> None:
    small = tr.load("bundled", kind="text")
    agreement = []
    for sentence in SENTENCES:
        inputs = small.prepare(sentence)
        ids = torch.tensor(kept)[inputs["input_ids"]]
        inside = range(1, ids.shape[-1] - 1)
        whole = tr.observe(minilm.module, inputs={**inputs, "input_ids": ids}).chain(-1, tokens=inside).tokenrank()
        ranked = tr.observe(sentence, small).chain().tokenrank()
        orders = [values.argsort().argsort().double() for values in (whole.values, ranked.values)]
        agreement.append(float(torch.corrcoef(torch.stack(orders))[0, 1]))
    assert min(agreement) > 0.85, agreement
    assert sum(agreement) / len(agreement) > 0.95, agreement
