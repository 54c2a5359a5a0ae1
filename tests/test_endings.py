"""What a name tells: pictures that are taken from folders are those that can be read; nothing is two things."""

from __future__ import annotations

from itertools import combinations

import PIL.Image
import pytest

from tokenrank import endings
from tokenrank.models import decoding

KINDS = {name: value for name, value in vars(endings).items() if name.isupper()}


def test_pictures_are_of_formats_that_are_read() -> None:
    PIL.Image.init()
    formats = {PIL.Image.registered_extensions()[ending] for ending in endings.PICTURES}
    assert formats <= {*decoding.HERE, *decoding.APART}


@pytest.mark.parametrize(("one", "other"), list(combinations(KINDS, 2)))
def test_an_ending_is_of_one_kind(one: str, other: str) -> None:
    assert not KINDS[one] & KINDS[other]


def test_endings_are_small_letters_behind_a_dot() -> None:
    for ending in set().union(*KINDS.values()):
        assert ending == ending.lower()
        assert ending.startswith(".")
