"""Cuts of walks against all bipartitions of a small one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from tokenrank.baselines.concepts import walked_ncut
from tokenrank.baselines.concepts.cuts import averaged, best_cut, flow, ncut, segments, walked
from tokenrank.errors import InputError

from .sources import COLUMNS, ROWS, WORDS, chains, weights
from .test_cross import column_by_loops
from .test_iterated import patches_by_loops


def blocks(sizes: tuple[int, ...], leak: float) -> torch.Tensor:
    """A walk that rarely leaves its block."""
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    same = (owner[:, None] == owner).double()
    noise = torch.rand(len(owner), len(owner), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = same * (0.5 + noise) + leak * (1 - same) * noise
    return made / made.sum(-1, keepdim=True)


def test_flow_is_stationary_and_symmetric():
    walk = blocks((4, 5), 0.05)
    moved = flow(walk)
    stationary = np.linalg.matrix_power(walk.numpy(), 5000)[0]
    by_hand = (
        np.array([[stationary[i] * walk[i, j] + stationary[j] * walk[j, i] for j in range(9)] for i in range(9)]) / 2
    )
    np.testing.assert_allclose(moved, by_hand, atol=1e-12)


def test_the_cut_of_a_walk_in_two_parts_is_the_best_of_all_bipartitions():
    moved = flow(blocks((3, 4), 0.1))
    side, cost = best_cut(moved)
    every = [torch.tensor(bits) for bits in product([False, True], repeat=7) if 0 < sum(bits) < 7]
    assert cost == pytest.approx(min(ncut(moved, one) for one in every), abs=1e-12)
    assert cost == pytest.approx(ncut(moved, side), abs=1e-12)
    assert sorted([int(side.sum()), int((~side).sum())]) == [3, 4]


def test_ncut_is_the_probability_of_crossing_either_way():
    walk = blocks((3, 4), 0.1)
    stationary = np.linalg.matrix_power(walk.numpy(), 5000)[0]
    side = np.array([True] * 3 + [False] * 4)
    out = sum(stationary[i] * float(walk[i, j]) for i in range(3) for j in range(3, 7)) / stationary[side].sum()
    back = sum(stationary[i] * float(walk[i, j]) for i in range(3, 7) for j in range(3)) / stationary[~side].sum()
    assert ncut(flow(walk), torch.from_numpy(side)) == pytest.approx(out + back, abs=1e-10)


def test_recursion_finds_as_many_parts_as_there_are():
    labels = segments(blocks((4, 3, 5), 0.02), 0.5)
    assert labels.unique().numel() == 3
    for part in (labels[:4], labels[4:7], labels[7:]):
        assert part.unique().numel() == 1
    assert segments(blocks((4, 3, 5), 0.02), 0.0).unique().numel() == 1


def test_a_words_map_is_the_mean_of_its_column_over_each_segment():
    found = walked_ncut(chains(2), WORDS, steps=2, threshold=1.5)
    walk = np.linalg.matrix_power(patches_by_loops(2), 2)
    labels = segments(torch.from_numpy(walk), 1.5).numpy()
    column = sum(column_by_loops(weights(seed), "cat") for seed in range(2)).ravel() / 2
    wanted = np.array([column[labels == label].mean() for label in labels]).reshape(ROWS, COLUMNS)
    np.testing.assert_allclose(found.values[0], wanted, rtol=1e-6)
    assert len(set(labels.tolist())) > 1


def test_walks_are_powers():
    walk = blocks((3, 3), 0.2)
    np.testing.assert_allclose(walked(walk, 3), np.linalg.matrix_power(walk.numpy(), 3))
    maps = torch.arange(6.0, dtype=torch.float64)[None]
    np.testing.assert_allclose(averaged(maps, torch.tensor([0, 0, 0, 1, 1, 1]))[0], [1, 1, 1, 4, 4, 4])


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="steps = 0"):
        walked_ncut(chains(), WORDS, steps=0)
