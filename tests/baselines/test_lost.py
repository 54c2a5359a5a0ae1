"""LOST: worked by hand, against loops, and on a real model's keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.baselines.graphs import lost, lost_from_features
from tokenrank.errors import InputError

BACKGROUND, OBJECT = (1.0, 0.0), (-1.0, 1.0)


def picture(drawing: str) -> tuple[Tensor, tuple[int, int]]:
    rows = drawing.split()
    return torch.tensor([OBJECT if c == "#" else BACKGROUND for c in "".join(rows)]), (len(rows), len(rows[0]))


def drawn(mask: Tensor) -> str:
    return " ".join("".join("#" if cell else "." for cell in row) for row in mask.tolist())


def test_by_hand():
    # alike: background 1, object 2, across −1; so the object's patches have the lower degree
    found = lost_from_features(*picture("..... .##.."))
    assert found.object.seed == 6
    assert found.values.tolist() == [-2, -2, -2, -2, -2, -2, 4, 4, -2, -2]
    assert drawn(found.object.mask) == "..... .##.."
    assert found.object.box == (0.2, 0.5, 0.6, 1.0)


def test_one_seed_alone():
    found = lost_from_features(*picture("..... .##.."), k=1)
    assert found.values.tolist() == [-1, -1, -1, -1, -1, -1, 2, 2, -1, -1]


def test_only_the_part_around_the_seed_is_the_object():
    found = lost_from_features(*picture("#.... ...##"))
    assert drawn(found.foreground) == "#.... ...##"
    assert drawn(found.object.mask) == "#.... ....."


def test_patches_of_low_degree_that_disagree_with_the_seed_do_not_join():
    # degrees 3, 3, 3, 1 with itself counted: the last is the seed, and no other is positively correlated
    features = torch.tensor([[1.0, 0], [1, 0.1], [1, -0.1], [-1, 0]])
    found = lost_from_features(features, (1, 4))
    assert found.object.seed == 3
    assert found.values.tolist() == [-1, -1, -1, 1]


@pytest.mark.parametrize("k", [1, 5, 100])
def test_agrees_with_loops(k):
    features = torch.randn(24, 3)
    plain = features.double().numpy()
    alike = [[float(a @ b) for b in plain] for a in plain]
    degrees = [sum(s >= 0 for s in row) for row in alike]
    lowest = sorted(range(24), key=degrees.__getitem__)[:k]
    joined = [p for p in lowest if alike[lowest[0]][p] > 0]
    expected = [sum(alike[s][p] for s in joined) for p in range(24)]
    found = lost_from_features(features, (4, 6), k)
    assert found.object.seed == lowest[0]
    assert found.values.numpy() == pytest.approx(np.array(expected))
    assert found.foreground.flatten().tolist() == [v > 0 for v in expected]
    assert found.object.mask.flatten()[found.object.seed]


def test_sign_and_scale_of_all_features_do_not_move_the_mask():
    features = torch.randn(24, 3)
    one, other = (lost_from_features(f, (4, 6)) for f in (features, -3 * features))
    assert one.object.seed == other.object.seed
    assert torch.equal(one.object.mask, other.object.mask)
    assert torch.allclose(9 * one.values, other.values)


def test_patches_in_another_order_give_the_same_map_in_that_order():
    # sorted by a component that all similarities depend on, so that no two degrees but equal features' agree
    angles = torch.tensor([0.0, 0.3, 0.9, 1.7, 2.2, 3.3])
    features = torch.stack([angles.cos(), angles.sin()], -1)
    whole = lost_from_features(features, (2, 3), k=1)
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    shuffled = lost_from_features(features[order], (2, 3), k=1)
    assert order[shuffled.object.seed] == whole.object.seed
    assert torch.allclose(shuffled.values, whole.values[order])


@pytest.mark.parametrize("features", [torch.ones(6, 2), torch.zeros(6, 2), torch.ones(6, 1) * torch.rand(1, 9)])
def test_a_constant_map_has_no_foreground(features):
    rounded = features * (1 + torch.finfo(torch.float32).eps * torch.randint(-1, 2, features.shape))
    for given in (features, rounded, features.double()):
        found = lost_from_features(given, (2, 3))
        assert not found.foreground.any()
        assert not found.object.mask.any()
        assert found.object.seed is None
        assert found.object.box is None


def test_a_common_mean_can_be_subtracted():
    features, grid = picture("..... .##..")
    assert lost_from_features(features + 20, grid).object.mask.all()
    assert drawn(lost_from_features(features + 20, grid, centre=True).object.mask) == "..... .##.."


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [(torch.ones(1, 3), 100, "two at least"), (torch.ones(2, 3), 0, "1 at least"), (torch.ones(3, 3), 1, "1 × 2")],
)
def test_what_cannot_be_used_is_refused(features, k, message):
    with pytest.raises(InputError, match=message):
        lost_from_features(features, (1, min(2, len(features))), k)


def test_on_the_bundled_model():
    seen = tr.observe(tr.samples.path("chelsea"), size=64)
    found = lost(seen, layer=2, k=5, what="q", centre=True)
    expected = lost_from_features(seen.features(2, "q"), seen.grid, 5, centre=True)
    assert found.layout == expected.layout == seen.picture_layout
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.object.mask, expected.object.mask)
    assert lost(seen, layer=2, k=5, what="q", centre=True).values is found.values
    assert not torch.equal(lost(seen, k=5).values, found.values)
