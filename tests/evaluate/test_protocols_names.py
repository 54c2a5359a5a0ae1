from __future__ import annotations

import dataclasses
import json

import pytest

from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.datasets.opening import DATASETS
from tokenrank.evaluate.protocols import PROTOCOLS, Protocol, Saliency, find


def test_protocols_are_found_by_name_with_their_options():
    assert find("saliency", size=96, posts=()) == Saliency(size=96, posts=())
    assert set(PROTOCOLS) == {
        "saliency", "seed", "imagenet-segmentation", "voc-single", "several", "regions", "clustering", "masking",
        "concept-segmentation", "voc-concepts", "diffseg",
    }  # fmt: skip
    for name, protocol in PROTOCOLS.items():
        made = find(name)
        assert isinstance(made, Protocol)
        assert made.name == name
        assert made.dataset in DATASETS
        assert type(made) is protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_settings_hold_every_option_and_are_plain(name: str):
    protocol = find(name)
    assert set(protocol.settings) == {field.name for field in dataclasses.fields(protocol)}
    json.dumps(protocol.settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.size = 3


def test_unknown_names_and_options_are_refused():
    with pytest.raises(NotFoundError, match=r"no protocol 'salience'; nearest: 'saliency'.*all: 'saliency', 'seed'"):
        find("salience")
    with pytest.raises(InputError, match="'regions' has no option 'side'; its options: scales, size, native"):
        find("regions", side=3)
