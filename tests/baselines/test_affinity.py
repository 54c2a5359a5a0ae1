"""The smallest normalised cut by hand, against a plain eigen-solver, and where it is not one vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenrank.baselines.affinity import checked_features, knn_matting_affinity, similarities, smallest_cut, strongest
from tokenrank.errors import InputError


def graph(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(size, size, dtype=torch.float64, generator=generator)
    return weights + weights.T


def residual(weights: Tensor, vector: Tensor, value: float) -> float:
    degrees = weights.sum(-1)
    return float((degrees * vector - weights @ vector - value * degrees * vector).abs().max())


def test_path_of_three_by_hand():
    weights = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    cut = smallest_cut(weights)
    assert cut.value == pytest.approx(1)
    assert cut.gap == pytest.approx(1)
    assert cut.vector.numpy() == pytest.approx(np.array([1, 0, -1]) / 2**0.5, abs=1e-14)


def test_triangle_by_hand():
    # D = (3, 3, 2): (1, 1, −3) has λ = 4/3 and xᵀDx = 24, (1, −1, 0) has λ = 5/3
    cut = smallest_cut(torch.tensor([[0.0, 2, 1], [2, 0, 1], [1, 1, 0]]))
    assert cut.value == pytest.approx(4 / 3)
    assert cut.gap == pytest.approx(1 / 3)
    assert cut.vector.numpy() == pytest.approx(np.array([-1, -1, 3]) / 24**0.5)


@pytest.mark.parametrize("size", [2, 3, 7, 20])
def test_agrees_with_the_unsymmetric_problem(size):
    weights = graph(size)
    degrees = weights.sum(-1)
    cut = smallest_cut(weights)
    values, vectors = np.linalg.eig(np.eye(size) - (weights / degrees[:, None]).numpy())
    second = np.argsort(values.real)[1]
    assert cut.value == pytest.approx(values.real[second], abs=1e-12)
    expected = vectors[:, second].real
    expected /= np.sqrt(expected @ (degrees.numpy() * expected))
    assert abs(cut.vector.numpy() @ (degrees.numpy() * expected)) == pytest.approx(1)
    assert residual(weights, cut.vector, cut.value) < 1e-12
    assert float(cut.vector @ degrees) == pytest.approx(0, abs=1e-12)


def test_patches_in_another_order_give_the_same_vector_in_that_order():
    weights = graph(12)
    order = torch.randperm(12)
    assert torch.allclose(smallest_cut(weights[order][:, order]).vector, smallest_cut(weights).vector[order])


def test_the_strongest_entry_is_positive():
    for seed in range(8):
        vector = smallest_cut(graph(6, seed)).vector
        assert vector[strongest(vector)] > 0


def test_of_entries_that_differ_by_rounding_the_first_is_strongest():
    assert strongest(torch.tensor([0.1, -1.0, 1.0 + 1e-15], dtype=torch.float64)) == 1


def test_two_pieces_stand_against_each_other():
    weights = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).double()
    cut = smallest_cut(weights)
    # degrees 2 and 3, volumes 4 and 9: x = (9, −4) / √(4 · 9 · 13), its strongest entry positive
    expected = torch.tensor([9.0, 9, -4, -4, -4], dtype=torch.float64) / (4 * 9 * 13) ** 0.5
    assert torch.allclose(cut.vector, expected)
    assert cut.value == 0
    assert cut.gap == pytest.approx(1)
    assert residual(weights, cut.vector, 0) < 1e-12


def test_of_three_pieces_the_largest_stands_against_the_rest():
    cut = smallest_cut(torch.block_diag(torch.ones(1, 1), torch.ones(3, 3), torch.ones(1, 1)).double())
    assert (cut.vector < 0).tolist() == [False, True, True, True, False]
    assert cut.vector[0] == pytest.approx(float(cut.vector[4]))
    assert cut.gap == 0


def test_rounding_does_not_tie_pieces_together():
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    features = torch.eye(6, dtype=torch.float64)[[0, 1, 1, 2, 2, 2]]
    plain, rotated = (similarities(f).clamp(min=0) for f in (features, features @ rotation))
    assert (rotated > 0).sum() > (plain > 0).sum()
    assert torch.allclose(smallest_cut(rotated).vector, smallest_cut(plain).vector)


@pytest.mark.parametrize(
    "weights",
    [torch.ones(5, 5), torch.ones(5, 5) + 3 * torch.eye(5), torch.ones(4, 4) * 1e-5, torch.diag(torch.arange(1.0, 5))],
)
def test_no_cut_where_all_are_alike(weights):
    cut = smallest_cut(weights)
    assert not cut.vector.any()
    assert cut.gap == 0


def test_two_patches_have_one_cut():
    cut = smallest_cut(torch.ones(2, 2))
    assert cut.vector.tolist() == pytest.approx([0.5, -0.5])
    assert cut.gap == float("inf")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(1, 1), "two patches"),
        (torch.ones(2, 3), "two patches"),
        (torch.tensor([[1.0, -0.1], [-0.1, 1]]), "≥ 0"),
        (torch.tensor([[1.0, float("nan")], [1, 1]]), "finite"),
        (torch.tensor([[1.0, 0.5], [0.2, 1]]), "symmetric"),
        (torch.diag(torch.tensor([1.0, 0, 1])), "patch 1 first"),
    ],
)
def test_weights_that_are_no_graph_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        smallest_cut(weights)


@pytest.mark.parametrize(
    ("features", "grid", "message"),
    [
        (torch.ones(3), None, "patches, dimensions"),
        (torch.ones(1, 3), None, "two at least"),
        (torch.ones(6, 3), (2, 2), "2 × 2"),
        (torch.full((4, 3), float("inf")), None, "12 entries"),
    ],
)
def test_features_that_cannot_be_used_are_refused(features, grid, message):
    with pytest.raises(InputError, match=message):
        checked_features(features, grid)


def test_centred_features_have_mean_zero():
    features = torch.rand(6, 3) + 5
    assert checked_features(features, centre=True).mean(0).abs().max() < 1e-12
    assert torch.equal(checked_features(features), features.double())


def test_similarities_are_cosines_and_zero_stays_zero():
    features = torch.tensor([[3.0, 4], [4, -3], [6, 8], [0, 0]])
    cosines = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]).double()
    assert torch.allclose(similarities(features), cosines)
    assert similarities(features, normalise=False)[0, 2] == 50


def test_colour_affinity_against_loops():
    rows, columns = 3, 4
    colours = torch.rand(rows, columns, 3, dtype=torch.float64)
    expected = np.zeros((12, 12))
    for k, weight in ((4, 2.0), (3, 0.1)):
        points = [
            [*colours[r, c].tolist(), weight * c / (columns - 1), weight * r / (rows - 1)]
            for r in range(rows)
            for c in range(columns)
        ]
        for i in range(12):
            distances = [sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True)) for j in range(12)]
            for j in sorted(range(12), key=distances.__getitem__)[:k]:
                expected[i, j] += 1
                expected[j, i] += 1
    assert np.array_equal(knn_matting_affinity(colours, (4, 3), (2.0, 0.1)).numpy(), expected)


def test_more_neighbours_than_cells_join_all():
    assert torch.equal(knn_matting_affinity(torch.rand(1, 3, 3)), torch.full((3, 3), 4.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("colours", "options", "message"),
    [
        (torch.ones(4, 3), {}, "rows, columns, 3"),
        (torch.full((2, 2, 3), 255.0), {}, "divide bytes by 255"),
        (torch.ones(2, 2, 3), {"neighbours": (3,)}, "k ≥ 1 each"),
    ],
)
def test_colours_that_cannot_be_used_are_refused(colours, options, message):
    with pytest.raises(InputError, match=message):
        knn_matting_affinity(colours, **options)
