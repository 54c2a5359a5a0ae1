"""What concept maps are made from: chains, several by name, observations; and what is refused, with the cure."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import InputError, LayoutError, NotFoundError, TokenRankError
from tokenrank.tasks import concept_maps
from tokenrank.tasks.concepts.word_blocks import blocks_of, checked_words, places

from . import chains


def test_a_chain_is_one_block_with_its_words():
    found = blocks_of(chains.joint())
    (block,) = found.every
    assert block.grid == (3, 4)
    assert block.picture == list(range(7, 19))
    assert block.word("german shepherd") == (1, 2)
    assert block.special == (0, 5, 6)


def test_a_chain_without_heads_is_one_of_one_head():
    alone = chains.joint().aggregate("uniform")
    torch.testing.assert_close(concept_maps(alone, "bus").values, concept_maps(chains.joint(), "bus").values)
    with pytest.raises(InputError, match=r"expected \(heads, N, N\)"):
        concept_maps(tr.AttentionChain(torch.full((2, 2, 19, 19), 1 / 19), chains.layout()), "bus")


def test_an_observation_of_a_chain_is_its_layers():
    picture = PIL.Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8))
    seen = tr.observe(chains.joint(), image=picture)
    maps = concept_maps(seen, "bus")
    torch.testing.assert_close(maps.values, concept_maps(chains.joint(), "bus").values)
    assert maps.picture is not None
    assert maps.picture.size == (8, 6)


def test_layers_are_named_by_numbers_names_and_globs():
    layers = {f"block.{i}": chains.joint(seed=i) for i in range(3)}
    last = concept_maps({"block.2": layers["block.2"]}, "bus").values
    for name in (-1, 2, "block.2", "*.2", ["block.2"]):
        torch.testing.assert_close(concept_maps(layers, "bus", layers=name).values, last)
    with pytest.raises(NotFoundError, match=r"nearest: 'block\.\d'"):
        concept_maps(layers, "bus", layers="blok.1")


def test_places_of_calls():
    assert places(None, 3) == [0, 1, 2]
    assert places(-1, 3) == [2]
    assert places(np.int64(1), 3) == [1]
    assert places([0, -1, 2], 3) == [0, 2]
    with pytest.raises(NotFoundError, match="no call 3: the source has 3 forward calls"):
        places([0, 3], 3)
    for wrong in ([], "first", 1.5, [0, None], True):
        with pytest.raises(InputError, match="calls = "):
            places(wrong, 3)


def test_words_are_given_once_each():
    assert checked_words("bus") == ("bus",)
    assert checked_words(("bus", "german shepherd")) == ("bus", "german shepherd")
    for wrong, message in {
        (): "no words given",
        ("bus", " "): "expected a word",
        ("bus", 3): "word 3",
        ("bus", "Bus"): "names 'Bus' twice",
        ("german shepherd", "german  shepherd"): "twice",
    }.items():
        with pytest.raises(InputError, match=message):
            checked_words(wrong)
    with pytest.raises(InputError, match="word None"):
        checked_words(None)


def test_a_word_that_the_prompt_does_not_hold_is_named_with_near_ones():
    with pytest.raises(NotFoundError, match="shepherd"):
        concept_maps(chains.joint(), ["sheperd"])
    with pytest.raises(NotFoundError):
        concept_maps(chains.joint(), ["pad"])


def test_more_words_than_the_prompt_holds():
    many = [f"word{i}" for i in range(100)]
    with pytest.raises(NotFoundError, match="word0"):
        concept_maps(chains.joint(), many)


@pytest.mark.parametrize(
    ("layout", "error", "message"),
    [
        (None, LayoutError, "unknown which of the 19 tokens"),
        (tr.TokenLayout({"image": 19}, {"image": (1, 19)}), InputError, "a picture alone"),
        (tr.TokenLayout({"text": 7, "image": 12}, {"image": (3, 4)}), InputError, "have no strings"),
        (tr.TokenLayout({"text": 19}, {}, ("a",) * 19), LayoutError, "which tokens are the picture"),
        (
            tr.TokenLayout({"text": 7, "video": 12}, {"video": (3, 2, 2)}, (*chains.PROMPT, *[""] * 12)),
            InputError,
            "over a video",
        ),
    ],
)
def test_a_chain_that_is_no_denoisers_is_refused(layout, error, message):
    chain = tr.AttentionChain.from_operator(chains.joint().operator, layout)
    with pytest.raises(error, match=message) as raised:
        concept_maps(chain, "bus")
    assert "video" in message or "picture" in str(raised.value)


def test_a_picture_and_a_model_of_pictures_say_what_to_do():
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"tr\.observe\(picture, model=pipe, prompt="):
        concept_maps(PIL.Image.fromarray(pixels), "bus", size=32)


def test_options_of_reading_go_with_what_is_still_to_be_observed():
    with pytest.raises(InputError, match=r"'size', expected no option of tr\.observe with a"):
        concept_maps(chains.joint(), "bus", size=32)
    with pytest.raises(TokenRankError, match="refin"):
        concept_maps(tr.observe(chains.joint()), "bus", refined="bounce")
