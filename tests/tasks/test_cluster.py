from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import InputError, LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.tasks.cluster import cluster, from_proposals
from tokenrank.tasks.merging import auto_tau, symmetric_kl


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(count, width, generator=generator, dtype=torch.float64)).softmax(-1)


@pytest.fixture(scope="module")
def two_halves() -> tr.AttentionChain:
    """A grid of 4 × 6 whose left and right half hardly attend to each other."""
    side = torch.arange(24) % 6 < 3
    logits = 6.0 * (side[:, None] == side) + 0.5 * torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    return tr.AttentionChain(logits.double().softmax(-1), TokenLayout({"image": 24}, {"image": (4, 6)}))


@pytest.mark.parametrize(
    "options",
    [
        {"tau": 0.5},
        {"k": 2},
        {"tau": 0.5, "grid": "tokenrank", "sort": True},
        {"tau": 0.5, "grid": "tokenrank-nms", "anchors": 3},
        {"tau": 0.3, "n": 2},
        {"how": "metastable"},
        {"how": "metastable", "k": 2},
    ],
)
def test_two_halves_are_found(two_halves: tr.AttentionChain, options):
    found = cluster(two_halves, image=np.zeros((40, 60, 3), np.uint8), **options)
    assert len(found.names) == 3
    left, right = found.labels[:, :25], found.labels[:, 35:]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0] != right[0, 0]
    assert set(np.unique(found.labels)) == {1, 2}


def test_auto_never_joins_the_halves(two_halves: tr.AttentionChain):
    labels = cluster(two_halves).labels
    assert not set(labels[:, :3].flat) & set(labels[:, 3:].flat)


def test_a_picture_that_agrees_with_itself_is_one_segment():
    chain = tr.AttentionChain(torch.full((12, 12), 1 / 12).double(), TokenLayout({"image": 12}, {"image": (3, 4)}))
    found = cluster(chain, image=np.zeros((6, 8, 3), np.uint8))
    assert (found.labels == 1).all()
    maps = chain.to_dense()
    assert auto_tau(symmetric_kl(maps, maps)) > 0
    assert auto_tau(symmetric_kl(maps[:1], maps[:1])) > 0


def test_proposals_that_win_nowhere_leave_no_gap():
    proposals = torch.tensor([[0.9, 0.1], [0.0, 0.0], [0.1, 0.9]])
    found = from_proposals(proposals, (1, 2), (2, 4))
    assert found.names == ("background", "segment 1", "segment 2")
    assert found.labels.tolist() == [[1, 1, 2, 2]] * 2
    assert found.scores.shape == (2, 2, 4)


def test_the_bundled_model_divides_a_picture():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    for options in ({}, {"layer": [1, 3]}, {"layer": 2, "heads": "uniform"}, {"k": 3}):
        found = cluster(image, size=48, **options)
        assert found.size == (40, 56)
        assert found.labels.min() == 1
        assert set(np.unique(found.labels)) == set(range(1, len(found.names)))


def test_several_layers_of_one_grid_are_their_mean():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    model = tr.load("bundled")
    inputs = model.prepare(image, 48)
    with tr.capture(model) as trace:
        model.forward(inputs)
    chains = [trace[i][0].restrict("image").aggregate("uniform").to_dense() for i in (1, 3)]
    layout = trace[1].restrict("image").layout
    expected = cluster(tr.AttentionChain(torch.stack(chains).mean(0), layout), image=image, tau=0.5)
    found = cluster(trace, image=image, layer=[1, 3], heads="uniform", tau=0.5)
    assert np.abs(found.scores - expected.scores).max() < 1e-5
    assert (found.labels == expected.labels).mean() > 0.99


def test_the_picture_and_the_choice_are_remembered():
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    found = cluster(image, size=48, layer=1, heads=2)
    assert found.picture.size == (56, 40)
    assert found.caption == "bundled, layer 1 of 0–11 (model.layer.1.attention), heads 2, tokens image, merge"


def test_what_cannot_be_is_refused(two_halves: tr.AttentionChain):
    for options, message in (
        ({"how": "kmeans"}, "how = 'kmeans'"),
        ({"n": 0}, "n = 0"),
        ({"tau": "high"}, "tau = 'high'"),
        ({"tau": -1.0}, "positive distance"),
        ({"grid": "hexagons"}, "grid = 'hexagons'"),
        ({"anchors": 0}, "anchors = 0"),
    ):
        with pytest.raises(InputError, match=message):
            cluster(two_halves, **options)
    with pytest.raises(LayoutError, match="layout"):
        cluster(tr.AttentionChain(torch.eye(4)))


@pytest.mark.parametrize("k", [0, 2.5, True, 10_000])
def test_a_number_of_segments_that_cannot_be(k: object) -> None:
    with pytest.raises(InputError, match=rf"k = {k} segments of 40 patches"):
        tr.tasks.cluster(tr.samples.path("chelsea"), k=k, size=64)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"how": "metastable"}, {"layer": [0, 0]}], ids=str)
def test_a_chain_without_a_picture_is_refused_as_by_the_other_tasks(options: dict[str, Any]) -> None:
    text = tr.AttentionChain(rows(5, 5), TokenLayout({"text": 5}))
    with pytest.raises(LayoutError) as expected:
        tr.tasks.saliency(text)
    with pytest.raises(LayoutError) as found:
        cluster(text, **options)
    assert str(found.value) == str(expected.value)
    assert "no picture is known among the 5 tokens; give one with a model that reads pictures" in str(found.value)
