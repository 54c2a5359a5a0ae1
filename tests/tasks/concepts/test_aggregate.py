"""One chain from layers and heads, and padding censored, dropped or kept, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import InputError, NotFoundError
from tokenrank.tasks import concept_maps
from tokenrank.tasks.concepts import aggregate
from tokenrank.tasks.concepts.aggregate import aggregated, by_tokens
from tokenrank.tasks.concepts.word_blocks import blocks_of

from . import chains, oracle

KEPT = [1, 2, 3, 4, *range(7, 19)]
GONE = [0, 5, 6]


def test_layers_and_heads_are_mixed_evenly_and_padding_is_censored():
    layers = {f"layer {i}": chains.joint(heads, seed=i) for i, heads in enumerate((3, 2))}
    found = aggregated(blocks_of(layers).every, chains.WORDS, "uniform", "censor")
    means = [chains.attention(*chains.queries(heads, seed=i)).mean(0) for i, heads in enumerate((3, 2))]
    np.testing.assert_allclose(
        found.chain.to_dense().numpy(), oracle.censored((means[0] + means[1]) / 2, KEPT), atol=1e-12
    )
    assert found.words == ((0, 1), (3,))
    assert found.picture == tuple(range(4, 16))
    for place, mean in enumerate(means):
        assert found.padding_mass[f"layer {place}"] == pytest.approx(mean[7:][:, GONE].sum(-1).mean())


def test_dropped_padding_leaves_every_softmax():
    found = aggregated(blocks_of(chains.joint()).every, chains.WORDS, "uniform", "drop")
    heads = oracle.dropped(chains.attention(*chains.queries()), KEPT)
    np.testing.assert_allclose(found.chain.to_dense().numpy(), heads.mean(0), atol=1e-12)


def test_kept_padding_stays_where_it_was():
    found = aggregated(blocks_of(chains.joint()).every, chains.WORDS, "uniform", "keep")
    np.testing.assert_allclose(found.chain.to_dense().numpy(), chains.attention(*chains.queries()).mean(0), atol=1e-12)
    assert found.words == chains.PLACES


def test_heads_count_by_their_second_eigenvalue_on_what_is_kept():
    found = aggregated(blocks_of(chains.joint()).every, chains.WORDS, "lambda2", "drop")
    heads = oracle.dropped(chains.attention(*chains.queries()), KEPT)
    moduli = np.array([np.sort(np.abs(np.linalg.eigvals(head)))[-2] for head in heads])
    np.testing.assert_allclose(
        found.chain.to_dense().numpy(), np.einsum("h,hij->ij", moduli / moduli.sum(), heads), atol=1e-8
    )


def test_named_heads_are_those_of_every_layer():
    found = aggregated(blocks_of(chains.joint()).every, chains.WORDS, [0, -1], "keep")
    heads = chains.attention(*chains.queries())
    np.testing.assert_allclose(found.chain.to_dense().numpy(), (heads[0] + heads[2]) / 2, atol=1e-12)
    with pytest.raises(NotFoundError, match="no head 3"):
        aggregated(blocks_of(chains.joint()).every, chains.WORDS, 3, "keep")


def with_pads(chain: np.ndarray, share: float, count: int, seed: int) -> np.ndarray:
    """A chain of ``count`` tokens more that is ``chain`` where it is watched only elsewhere than on them.

    ``chain`` = (1 − share) · rest + share · 1 ωᵀ: from everywhere the walk steps to pads with probability ``share``, is
    on them for a while, and comes back by ω.
    """
    made = np.random.default_rng(seed)
    n = len(chain)
    omega = chain.min(0) / chain.min(0).sum()
    share = min(share, 0.9 * chain.min(0).sum())
    whole = np.zeros((n + count, n + count))
    whole[:n, :n] = chain - share * omega
    whole[:n, n:] = share * made.dirichlet(np.ones(count), n)
    stay = made.random(count) * 0.95
    whole[n:, n:] = stay[:, None] * made.dirichlet(np.ones(count), count)
    whole[n:, :n] = (1 - stay)[:, None] * omega
    return whole


@settings(max_examples=12)
@given(
    st.sampled_from([1, 2, 7, 60, 500]), st.integers(0, 1000), st.sampled_from(["bounce", "tokenrank", "absorption"])
)
def test_appended_padding_changes_no_censored_map(count, seed, refine):
    chain = chains.attention(*chains.queries(2, strings=("german", "shepherd", "bus"), seed=seed))
    more = np.stack([with_pads(head, 0.5, count, seed) for head in chain[:1]])
    spans = {"text": 3, "image": 12}
    strings = ("german", "shepherd", "bus", *[""] * 12)
    alone = tr.AttentionChain(chain[:1], tr.TokenLayout(spans, {"image": (3, 4)}, strings))
    padded = tr.TokenLayout(
        spans | {"text_padding": count}, {"image": (3, 4)}, (*strings, *["<pad>"] * count), tuple(range(15, 15 + count))
    )
    one = concept_maps(alone, chains.WORDS, refine=refine, n=2)
    other = concept_maps(tr.AttentionChain(more, padded), chains.WORDS, refine=refine, n=2)
    assert float((one.values - other.values).abs().max()) <= 1e-5
    assert 0 < other.padding_mass["the chain"] <= 0.5
    kept = concept_maps(tr.AttentionChain(more, padded), chains.WORDS, refine=refine, n=2, padding="keep")
    if refine == "bounce":  # the test can fail: kept padding does change the map
        assert float((one.values - kept.values).abs().max()) > 1e-5


def test_where_walks_end_in_words_padding_is_dropped_and_the_caption_says_so():
    maps = concept_maps(chains.crossing(), chains.WORDS, n=1)
    assert "3 padding and special tokens dropped" in maps.caption
    dense = chains.crossing().to_dense()[0].numpy()
    kept = [token for token in range(19) if token not in (12, 17, 18)]
    part = dense[np.ix_(kept, kept)]
    part = part / part.sum(-1, keepdims=True)
    bounced = oracle.bounce(part, (12, 13), 1, "backward")[:12]
    np.testing.assert_allclose(maps.values[0].flatten(), oracle.normal(bounced), atol=1e-6)


def test_layers_of_several_grids_stand_apart_the_finest_first():
    layers = {
        "coarse": chains.joint(grid=(2, 2)),
        "fine": chains.joint(grid=(4, 4)),
        "coarse 2": chains.joint(grid=(2, 2)),
    }
    groups = by_tokens(blocks_of(layers).every)
    assert [[block.name for block in group] for group in groups] == [["fine"], ["coarse", "coarse 2"]]


def test_large_chains_are_never_built(monkeypatch):
    small = concept_maps(chains.joint(), chains.WORDS, n=2)
    monkeypatch.setattr(aggregate, "DENSE_TOKENS", 4)
    monkeypatch.setattr(tr.operators.QueryKey, "to_dense", None)
    monkeypatch.setattr(tr.operators.Pooled, "to_dense", None)
    free = concept_maps(chains.joint(), chains.WORDS, n=2)
    torch.testing.assert_close(free.values, small.values)


def test_blocks_whose_words_stand_elsewhere_have_a_chain_each():
    strings = ("<bos>", "bus", "and", "german", "shepherd", "<a>", "<b>")
    layers = {"one": chains.joint(), "two": chains.joint(strings=strings)}
    both = concept_maps(layers, chains.WORDS)
    alone = [concept_maps({name: layer}, chains.WORDS).values for name, layer in layers.items()]
    torch.testing.assert_close(both.values, (alone[0] + alone[1]) / 2)
    assert "grids" not in both.caption


def test_another_treatment_of_padding_is_refused():
    with pytest.raises(InputError, match="padding = 'mask'"):
        concept_maps(chains.joint(), chains.WORDS, padding="mask")
