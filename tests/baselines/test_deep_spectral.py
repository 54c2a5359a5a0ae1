"""Deep Spectral Methods: three unit features by hand, blocks, colours, a real model's keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

import tokenrank as tr
from tokenrank.baselines.affinity import knn_matting_affinity
from tokenrank.baselines.graphs import deep_spectral, deep_spectral_from_features, grid_colours
from tokenrank.errors import InputError, NotUniqueWarning


def at_angles(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees], dtype=torch.float64)


def test_three_features_by_hand():
    # 60° apart: W = [[1, ½, 0], [½, 1, ½], [0, ½, 1]], D = (1½, 2, 1½), x = (1, 0, −1) / √3 with λ = ⅓
    found = deep_spectral_from_features(at_angles(0, 60, 120))
    assert found.abs().numpy() == pytest.approx(np.array([1, 0, 1]) / 3**0.5, abs=1e-14)
    assert found[0] == pytest.approx(-float(found[2]))


def test_the_smaller_block_is_positive():
    features = torch.eye(2)[[0, 0, 1, 0, 1, 0, 0]]
    found = deep_spectral_from_features(features)
    assert (found > 0).tolist() == [False, False, True, False, True, False, False]


def test_a_majority_is_negated():
    features = at_angles(0, 0, 0, 0, 95, 100, 170, 175, 180)
    found = deep_spectral_from_features(features)
    assert (found > 0).sum() == 4
    assert (found[:4] > 0).all()


def test_agrees_with_the_unsymmetric_problem():
    features = torch.randn(15, 4, dtype=torch.float64)
    plain = (features / features.norm(dim=-1, keepdim=True)).numpy()
    weights = np.maximum(plain @ plain.T, 0)
    values, vectors = np.linalg.eig(np.eye(15) - weights / weights.sum(1, keepdims=True))
    expected = vectors[:, np.argsort(values.real)[1]].real
    expected /= np.sqrt(expected @ (weights.sum(1) * expected))
    expected = -expected if (expected > 0).mean() > 0.5 else expected
    assert deep_spectral_from_features(features).numpy() == pytest.approx(expected, abs=1e-10)


def test_order_and_sign_and_length_of_features():
    features, order = torch.randn(15, 4), torch.randperm(15)
    expected = deep_spectral_from_features(features)
    assert torch.allclose(deep_spectral_from_features(features[order]), expected[order])
    assert torch.allclose(deep_spectral_from_features(-features), expected)
    longer = features * (torch.rand(15, 1) + 0.5)
    assert torch.allclose(deep_spectral_from_features(longer), expected, atol=1e-6)
    raw, tenfold = (deep_spectral_from_features(f, normalise=False) for f in (longer, 10 * longer))
    assert not torch.allclose(raw, expected, atol=1e-3)
    assert torch.allclose(raw, tenfold, atol=1e-6)


def test_equal_features_have_no_cut():
    with pytest.warns(NotUniqueWarning, match="equally alike"):
        assert not deep_spectral_from_features(torch.ones(6, 2)).any()


def test_colours_alone_cut_equal_features():
    colours = torch.zeros(12, 12, 3)
    colours[3:9, 2:8] = 1  # 36 cells, more than the 20 neighbours that each is joined with
    found = deep_spectral_from_features(torch.ones(144, 2), colours, colour=10)
    assert torch.equal(found.reshape(12, 12) > 0, colours[..., 0] > 0)


def test_colours_are_added_with_their_weight():
    features, colours = at_angles(*np.random.default_rng(0).uniform(0, 170, 12)), torch.rand(3, 4, 3)
    weights = (features @ features.T).clamp(min=0) + 0.3 * knn_matting_affinity(colours)
    found = deep_spectral_from_features(features, colours, colour=0.3)
    degrees = weights.sum(-1)
    value = found @ (degrees * found - weights @ found)
    assert torch.allclose(degrees * found - weights @ found, value * degrees * found, atol=1e-12)
    assert not torch.allclose(found, deep_spectral_from_features(features), atol=1e-3)


def test_a_common_mean_can_be_subtracted():
    features = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 0, 1, 0, 0]] + 7
    assert (deep_spectral_from_features(features, centre=True) > 0).nonzero().flatten().tolist() == [2, 4]


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (torch.ones(1, 2), {}, "two at least"),
        (torch.tensor([[1.0, 0], [0, 0], [1, 1]]), {}, "patch 1 first"),
        (torch.zeros(3, 2), {}, "3 of 3 patches"),
        (torch.eye(4), {"colour": -1}, "≥ 0"),
        (torch.eye(4), {"colour": 1}, "without colours"),
        (torch.eye(4), {"colour": 1, "colours": torch.rand(2, 3, 3)}, "2 × 3"),
        (torch.eye(4), {"colour": 1, "colours": torch.rand(4)}, "rows, columns, 3"),
    ],
)
def test_what_cannot_be_used_is_refused(features, options, message):
    with pytest.raises(InputError, match=message):
        deep_spectral_from_features(features, **options)


def test_colours_of_a_prepared_picture():
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (51, 102, 204), (255, 0, 102)
    seen = tr.observe(Image.fromarray(pixels), size=64)
    colours = grid_colours(seen, seen.grid)
    assert colours.shape == (6, 8, 3)
    assert colours[3, 1].tolist() == pytest.approx([0.2, 0.4, 0.8], abs=1e-6)
    assert colours[2, 7].tolist() == pytest.approx([1, 0, 0.4], abs=1e-6)


def test_on_the_bundled_model():
    seen = tr.observe(tr.samples.path("chelsea"), size=64)
    outputs = seen.features(-1, "h")
    expected = deep_spectral_from_features(outputs)
    published = deep_spectral_from_features(seen.features(-1, "k"))
    assert torch.equal(deep_spectral(seen, what="k").values, published)
    assert not torch.equal(expected, published)
    found = deep_spectral(seen)
    assert torch.equal(found.values, expected)
    assert torch.equal(found.foreground, expected.reshape(seen.grid) > 0)
    assert 0 < found.foreground.sum() <= found.foreground.numel() / 2
    coloured = deep_spectral(seen, colour=10)
    assert torch.equal(coloured.values, deep_spectral_from_features(outputs, grid_colours(seen, seen.grid), 10))
    assert not torch.equal(coloured.values, found.values)


def test_colours_of_what_was_captured_before_are_refused_with_the_cure():
    trace = tr.observe(tr.samples.path("chelsea"), size=64).trace
    assert deep_spectral(trace, what="k").values.any()
    with pytest.raises(InputError, match=r"tr\.observe\(source, model=…\)"):
        deep_spectral(trace, colour=10, what="k")
