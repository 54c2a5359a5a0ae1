"""Cross maps against plain loops: raw column, expert layer, DAAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tokenrank as tr
from tokenrank.baselines.concepts import daam, expert_layer, raw_column
from tokenrank.baselines.concepts.cross import columns, daam_sum, expert
from tokenrank.errors import InputError, NotFoundError

from .sources import COLUMNS, COUNT, HEADS, PLACES, ROWS, TEXT, WORDS, chains, weights


def column_by_loops(matrix: np.ndarray, word: str) -> np.ndarray:
    """(rows, columns): for each patch, the mean over heads and over the word's tokens."""
    found = np.zeros((ROWS, COLUMNS))
    for patch in range(ROWS * COLUMNS):
        for head in range(HEADS):
            for token in PLACES[word]:
                found[divmod(patch, COLUMNS)] += matrix[head, TEXT + patch, token] / HEADS / len(PLACES[word])
    return found


@pytest.mark.parametrize("word", WORDS)
def test_raw_column_is_the_mean_over_heads_and_tokens(word):
    found = raw_column(chains(), WORDS, layer="blocks.1")
    assert found.words == WORDS
    wanted = column_by_loops(weights(1), word)
    np.testing.assert_allclose(found.values[WORDS.index(word)], wanted, rtol=1e-6)


def test_without_a_name_the_layer_is_three_quarters_up():
    found = raw_column(chains(4), WORDS)
    np.testing.assert_allclose(found.values[0], column_by_loops(weights(3), "cat"), rtol=1e-6)
    assert "blocks.3" in found.caption


def test_daam_is_the_sum_over_layers():
    found = daam(chains(3), WORDS)
    for place, word in enumerate(WORDS):
        wanted = sum(column_by_loops(weights(seed), word) for seed in range(3))
        np.testing.assert_allclose(found.values[place], wanted, rtol=1e-6)


def test_daam_of_several_grids_enlarges_to_the_finest():
    small = torch.rand(2, 2, 3, dtype=torch.float64)
    large = torch.rand(2, 4, 6, dtype=torch.float64)
    wanted = large + F.interpolate(small[None], (4, 6), mode="bicubic", align_corners=False)[0].clamp_min(0)
    torch.testing.assert_close(daam_sum([small, large], (4, 6)), wanted)


def test_a_layer_of_a_u_net_counts_by_its_cross_attention(tmp_path):
    """Joined by tr.bipartite, its columns are those of the cross-attention but for one factor."""
    pytest.importorskip("diffusers")
    from tests.diffusion import pipelines

    from .sources import photograph

    seen = tr.observe(photograph(), model=pipelines.stable_diffusion(tmp_path), prompt="a cat a dog", noise=0.5)
    name = seen.blocks[0]
    found = raw_column(seen, ["cat", "dog"], layer=name)
    cross = seen.cross(name).weights.double().flatten(0, -3).mean(0)
    first = [place - (seen.block(name).num_tokens - cross.shape[-1]) for place in seen.word("cat", name)]
    wanted = cross[:, first].mean(-1)
    ratio = found.values[0].flatten().double() / wanted
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-5, atol=0)


def expert_by_loops(matrix: np.ndarray, word: str) -> np.ndarray:
    mean = matrix.mean(0)
    total = np.zeros(ROWS * COLUMNS)
    for token in PLACES[word]:
        column = mean[TEXT:, token]
        total += (column - column.min()) / (column.max() - column.min()) / len(PLACES[word])
    return total.reshape(ROWS, COLUMNS)


def test_expert_layer_scales_each_token_before_it_averages():
    found = expert_layer(chains(), WORDS, layer=2)
    for place, word in enumerate(WORDS):
        np.testing.assert_allclose(found.values[place], expert_by_loops(weights(2), word), rtol=1e-5, atol=1e-6)


def test_batches_are_what_single_sources_are():
    masses = torch.zeros(2, len(WORDS), COUNT, dtype=torch.float64)
    for row, word in enumerate(WORDS):
        masses[:, row, PLACES[word]] = 1 / len(PLACES[word])
    both = torch.stack([torch.from_numpy(weights(seed)) for seed in (0, 1)])
    picture = torch.arange(TEXT, COUNT)
    for batched, single in ((columns, column_by_loops), (expert, expert_by_loops)):
        found = batched(both, masses, picture)
        for seed in (0, 1):
            for row, word in enumerate(WORDS):
                np.testing.assert_allclose(found[seed, row], single(weights(seed), word).ravel(), rtol=1e-9)


def test_a_word_that_is_not_there_and_a_layer_that_is_several_are_refused():
    with pytest.raises(NotFoundError, match="dog"):
        raw_column(chains(), ["dog"])
    with pytest.raises(InputError, match="fits 4 layers"):
        raw_column(chains(4), WORDS, layer="blocks.*")
