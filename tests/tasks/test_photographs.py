"""What the bundled network finds in the package's photographs, against boxes drawn by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tokenrank as tr
from tokenrank.errors import NothingThereWarning

# left, upper, right, lower, in fractions of the picture
BOXES = {
    "astronaut": [(0.30, 0.02, 0.60, 0.45), (0.04, 0.35, 0.74, 1.0)],  # head; suit
    "chelsea": [(0.0, 0.0, 0.85, 1.0)],  # the cat's face
    "coffee": [(0.12, 0.03, 0.81, 0.98)],  # the cup and its saucer
}
SIZE = 128


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load("bundled", size=SIZE)


def boxed(name: str, size: tuple[int, int]) -> np.ndarray:
    """The pixels in any of the boxes, bool (H, W)."""
    height, width = size
    inside = np.zeros(size, dtype=bool)
    for left, upper, right, lower in BOXES[name]:
        inside[round(upper * height) : round(lower * height), round(left * width) : round(right * width)] = True
    return inside


@pytest.mark.parametrize("name", BOXES)
def test_segment_finds_the_thing_that_it_starts_on(model: tr.Model, name: str) -> None:
    """Nine tenths of the mask lie on the thing, and the mask covers a good part of its box."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingThereWarning)
        found = tr.tasks.segment(tr.samples.path(name), tr.samples.start(name), model=model, layer=-1)
    mask, box = found.labels > 0, boxed(name, found.size)
    assert mask[box].sum() > 0.9 * mask.sum()
    assert mask[box].mean() > 0.35
    assert found.strength is not None
    assert found.strength > 0.15


@pytest.mark.parametrize("name", tr.samples.names())
def test_no_photograph_may_be_nothing(model: tr.Model, name: str) -> None:
    seen = tr.observe(tr.samples.path(name), model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingThereWarning)
        for found in (
            tr.tasks.saliency(seen),
            tr.tasks.cluster(seen, k=6),
            tr.tasks.segment(seen, tr.samples.start(name)),
        ):
            assert found.strength is not None
            assert found.strength > 0.1


@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
def test_the_last_bounces_forget_where_they_began(model: tr.Model, name: str) -> None:
    """One bounce stays near the start; TokenRank is the same from everywhere, and eight bounces are almost there."""
    chain = tr.observe(tr.samples.path(name), model).chain(layer=9, heads="uniform")
    rank = chain.tokenrank().values
    one, eight = (chain.bounce(tr.samples.start(name), n).values for n in (1, 8))
    far = [float((walk - rank).abs().sum()) / 2 for walk in (one, eight)]
    assert far[0] > 0.25
    assert far[1] < 0.1
