"""iSeg against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenrank.baselines.concepts import iseg
from tokenrank.baselines.concepts.iterated import refined, sharpened
from tokenrank.errors import InputError

from .sources import COLUMNS, ROWS, TEXT, WORDS, chains, weights
from .test_cross import column_by_loops

PATCHES = ROWS * COLUMNS


def patches_by_loops(count: int) -> np.ndarray:
    """Mean over layers of what the patches attend to among themselves, rows to sum one."""
    total = np.zeros((PATCHES, PATCHES))
    for seed in range(count):
        own = weights(seed).mean(0)[TEXT:, TEXT:]
        for row in range(PATCHES):
            total[row] += own[row] / own[row].sum() / count
    return total


def iseg_by_loops(column: np.ndarray, attention: np.ndarray, iterations: int, entropy: float, turned: bool):
    sharp = np.zeros_like(attention)
    for i in range(PATCHES):
        for j in range(PATCHES):
            x = attention[i, j] / attention[i].max()
            sharp[i, j] = max(0.0, x + entropy * math.log10(math.e * x)) if x > 0 else 0.0
    if turned:
        sharp = sharp.T
    sharp = np.stack([row / row.sum() if row.sum() > 0 else np.eye(PATCHES)[place] for place, row in enumerate(sharp)])
    found = (column - column.min()) / (column - column.min()).sum()
    for _ in range(iterations):
        found = sharp @ found
        found = found - found.min()
        found = found / found.sum()
    return found


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("iterations", "entropy"), [(0, 0.3), (1, 0.0), (3, 0.3)])
def test_iseg_is_what_loops_make_of_it(iterations, entropy, turned):
    found = iseg(chains(2), WORDS, iterations=iterations, entropy=entropy, turned=turned)
    for place, word in enumerate(WORDS):
        column = sum(column_by_loops(weights(seed), word) for seed in range(2)).ravel() / 2
        wanted = iseg_by_loops(column, patches_by_loops(2), iterations, entropy, turned)
        np.testing.assert_allclose(found.values[place].flatten(), wanted, rtol=1e-5, atol=1e-7)


def test_entropy_falls():
    attention = torch.from_numpy(patches_by_loops(2))
    before, after = ((-torch.special.xlogy(a, a)).sum(-1) for a in (attention, sharpened(attention, 0.3)))
    assert bool((after < before).all())


def test_a_map_that_is_the_same_everywhere_stays_so():
    even = torch.full((1, PATCHES), 0.25, dtype=torch.float64)
    found = refined(even, torch.from_numpy(patches_by_loops(1)), 2)
    torch.testing.assert_close(found, torch.full_like(even, 1 / PATCHES))


def test_negative_numbers_are_refused():
    with pytest.raises(InputError, match="iterations = -1"):
        iseg(chains(), WORDS, iterations=-1)
