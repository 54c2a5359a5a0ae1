"""``segment(words=…)``: pixels of each word, by the options of concept maps."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

import tokenrank as tr
from tokenrank.errors import InputError, NotFoundError
from tokenrank.tasks import concept_maps, segment

from . import chains


def picture() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8))


def test_labels_are_those_of_the_maps_at_the_pictures_size():
    seen = tr.observe(chains.joint(), image=picture())
    found = segment(seen, words=chains.WORDS)
    maps = concept_maps(seen, chains.WORDS)
    assert found.names == ("background", *chains.WORDS)
    assert found.size == (12, 16)
    assert (found.labels == maps.labels((12, 16))).all()
    assert found.caption == maps.caption
    assert found.picture is not None
    assert found.strengths is None  # a chain cannot be run again
    assert segment(chains.joint(), words="bus").size == (3, 4)


def test_options_are_handed_on():
    options = {
        "n": 3, "heads": [0, 2], "direction": "forward", "refine": "metastable", "cut": None, "padding": "drop",
    }  # fmt: skip
    found = segment(chains.joint(), words=chains.WORDS, **options)
    wanted = concept_maps(chains.joint(), chains.WORDS, **options)
    assert found.caption == wanted.caption
    assert (found.labels == wanted.labels()).all()
    layers = {"a": chains.joint(), "b": chains.joint(seed=1)}
    assert "layer b" in segment(layers, words="bus", layer="b").caption
    assert "layer b" in segment(layers, words="bus", layers="b").caption
    assert "alpha 0.5" in segment(chains.joint(), words="bus", refine="tokenrank", alpha=0.5).caption


def test_what_belongs_to_places_is_refused():
    for given in ({"start": tr.at(0.5, 0.5)}, {"text": "bus"}, {"rule": None}, {"component": True}):
        with pytest.raises(InputError, match=f"both words and {next(iter(given))}"):
            segment(chains.joint(), words="bus", **given)
    with pytest.raises(InputError, match="refine = 'guided'"):
        segment(chains.joint(), words="bus", refine="guided")
    with pytest.raises(InputError, match="expected None or 'guided'"):
        segment(tr.observe(chains.joint()), text="bus", refine="tokenrank")
    with pytest.raises(NotFoundError, match="no option 'cut'"):
        segment(picture(), tr.at(0.5, 0.5), size=32, cut="mean")
    with pytest.raises(InputError, match="no words given"):
        segment(chains.joint(), words=[])


def test_text_stays_as_it_was():
    found = segment(tr.observe(chains.joint()), text="bus", n=2)
    assert found.names == ("background", "bus")
    assert "n = 2, backward, rule mean" in found.caption
