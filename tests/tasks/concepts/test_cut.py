"""Cuts: shares of the words, and the best normalised cut of nested sets, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.tasks import concept_maps
from tokenrank.tasks.concepts import cut
from tokenrank.tasks.concepts.cut import ncut_thresholds, softmaxed

from . import chains, oracle


def test_softmax_over_words_of_logarithms_is_their_share():
    maps = torch.rand(3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(softmaxed(maps), maps.log().softmax(0))
    maps[:, 0, 0] = 0
    assert softmaxed(maps)[:, 0, 0].tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(InputError, match="two words at least"):
        concept_maps(chains.joint(), ["bus"], cut="softmax")


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(2, 5))
def test_the_best_of_all_nested_sets_is_found(seed, patches, levels):
    made = np.random.default_rng(seed)
    a = made.dirichlet(np.full(patches, 0.3), patches) * 0.95 + 0.05 / patches
    values = made.integers(0, levels, patches) / 8
    (threshold,) = ncut_thresholds(tr.AttentionChain(a), torch.from_numpy(values)[None])
    if len(np.unique(values)) == 1:
        assert not (values > threshold).any()
    else:
        assert threshold == oracle.best_cut(a, values)


def test_of_many_patches_evenly_spaced_sets_are_tried(monkeypatch):
    monkeypatch.setattr(cut, "EVERY", 4)
    monkeypatch.setattr(cut, "COLUMNS", 3)
    half = np.repeat([1.0, 0.0], 10)
    a = 0.98 * (np.outer(half, half) + np.outer(1 - half, 1 - half)) / 10 + 0.02 / 20
    values = torch.linspace(1, 0, 20, dtype=torch.float64)[None]
    (threshold,) = ncut_thresholds(tr.AttentionChain(a), values)
    assert 6 <= int((values > threshold).sum()) <= 14
    monkeypatch.setattr(cut, "EVERY", 100)
    (threshold,) = ncut_thresholds(tr.AttentionChain(a), values)
    assert int((values > threshold).sum()) == 10


def test_the_cut_of_a_words_map_is_of_the_pictures_own_walk():
    maps = concept_maps(chains.joint(), chains.WORDS, cut="ncut")
    kept = [1, 2, 3, 4, *range(7, 19)]
    whole = oracle.censored(chains.attention(*chains.queries()).mean(0), kept)
    picture = whole[4:, 4:] / whole[4:, 4:].sum(-1, keepdims=True)
    wanted = [oracle.best_cut(picture, one.flatten().numpy()) for one in maps.values]
    assert maps.thresholds == pytest.approx(wanted)
    inside = maps.inside()
    assert inside.shape == (2, 3, 4)
    assert (inside == (maps.values.numpy() > np.array(wanted)[:, None, None])).all()
