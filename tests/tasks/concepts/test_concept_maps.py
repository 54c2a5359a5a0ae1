"""The three switches together: several grids, captions, certificates, words that change places."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tokenrank as tr
from tokenrank.errors import InputError
from tokenrank.tasks import concept_maps

from . import chains


@pytest.mark.parametrize("refine", ["bounce", "tokenrank", "metastable", "absorption", None])
@pytest.mark.parametrize("make", [chains.joint, chains.crossing])
def test_every_combination_of_switches_gives_maps(refine, make):
    given = make()
    every = list(
        itertools.product(("mean", "softmax", "ncut", None), ("censor", "drop", "keep"), ("uniform", "lambda2", 0))
    )
    for cut, padding, heads in every[::7] if refine == "metastable" else every[::2]:
        maps = concept_maps(given, chains.WORDS, refine=refine, cut=cut, padding=padding, heads=heads)
        assert maps.words == chains.WORDS
        assert maps.grid == (3, 4)
        assert bool(torch.isfinite(maps.values).all())
        totals = maps.values.sum((1, 2))
        if cut == "softmax":
            torch.testing.assert_close(maps.values.sum(0), torch.ones(3, 4))
        elif refine != "absorption":
            torch.testing.assert_close(totals, torch.ones(2))
        assert maps.labels().max() <= 2
        assert (maps.certificate is None) == (refine in ("bounce", None))


def test_swapping_the_words_swaps_the_maps():
    one = concept_maps(chains.joint(), chains.WORDS)
    other = concept_maps(chains.joint(), chains.WORDS[::-1])
    torch.testing.assert_close(one.values.flip(0), other.values)


def test_a_map_does_not_depend_on_the_other_words_that_are_asked_for():
    both = concept_maps(chains.joint(), ["german shepherd", "bus"], n=2)
    torch.testing.assert_close(concept_maps(chains.joint(), "bus", n=2).values[0], both.values[1])


def test_layers_of_several_grids_are_enlarged_to_the_finest_by_their_number():
    layers = {"a": chains.joint(grid=(2, 2)), "b": chains.joint(grid=(4, 6)), "c": chains.joint(grid=(2, 2), seed=1)}
    maps = concept_maps(layers, chains.WORDS)
    assert maps.grid == (4, 6)
    fine = concept_maps(layers, chains.WORDS, layers="b").values.double()
    coarse = concept_maps(layers, chains.WORDS, layers=["a", "c"]).values.double()
    large = F.interpolate(coarse[None], (4, 6), mode="bilinear", align_corners=False)[0]
    wanted = fine / 3 + 2 / 3 * large / large.sum((1, 2), keepdim=True)
    torch.testing.assert_close(maps.values.double(), wanted, atol=1e-7, rtol=1e-5)
    assert "2 grids, the finest 4 × 6" in maps.caption
    absorbed = concept_maps(layers, chains.WORDS, refine="absorption").values
    torch.testing.assert_close(absorbed.sum(0), torch.ones(4, 6))


def test_the_caption_says_what_was_done_and_how_much_padding_took():
    maps = concept_maps(chains.joint(), chains.WORDS, n=2, heads="lambda2")
    dense = chains.attention(*chains.queries())
    for told in ("heads lambda2", "n = 2, backward", "cut mean", "3 padding and special tokens censored"):
        assert told in maps.caption
    (mass,) = maps.padding_mass.values()
    assert f"{mass:.0%} of the picture's attention" in maps.caption
    assert dense[:, 7:, [0, 5, 6]].sum(-1).mean(-1).min() <= mass <= dense[:, 7:, [0, 5, 6]].sum(-1).mean(-1).max()
    layers = {f"layer {i}": chains.joint(seed=i) for i in range(3)}
    found = concept_maps(layers, chains.WORDS)
    assert list(found.padding_mass) == list(layers)
    assert "by layer" in found.caption
    clean = concept_maps(chains.joint(strings=("german", "shepherd", "bus")), chains.WORDS)
    assert "padding" not in clean.caption
    assert clean.padding_mass == {"the chain": 0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_records_in_lower_precision_give_the_same_maps(dtype):
    q, k = (torch.from_numpy(part).to(dtype) for part in chains.queries())
    given = tr.AttentionChain.from_qk(q, k, layout=chains.layout())
    exact = tr.AttentionChain.from_qk(q.double(), k.double(), layout=chains.layout())
    one, other = (concept_maps(chain, chains.WORDS, n=2).values for chain in (given, exact))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="cut = 'otsu'"):
        concept_maps(chains.joint(), "bus", cut="otsu")
    with pytest.raises(InputError, match="heads = 'best'"):
        concept_maps(chains.joint(), "bus", heads="best")
