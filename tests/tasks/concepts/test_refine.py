"""From a word to the picture, against NumPy; what does not change however a word is cut into tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import ChainError, InputError
from tokenrank.tasks import concept_maps
from tokenrank.tasks.concepts import refine as room

from . import chains, oracle

KEPT = [1, 2, 3, 4, *range(7, 19)]
WORDS, PICTURE = ((0, 1), (3,)), slice(4, None)


def chain() -> np.ndarray:
    return oracle.censored(chains.attention(*chains.queries()).mean(0), KEPT)


def found(**options) -> np.ndarray:
    return concept_maps(chains.joint(), chains.WORDS, **options).values.flatten(1).double().numpy()


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_bounces(n, direction):
    wanted = [oracle.normal(oracle.bounce(chain(), word, n, direction)[PICTURE]) for word in WORDS]
    np.testing.assert_allclose(found(n=n, direction=direction), wanted, atol=1e-7)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_tokenrank_from_the_word(direction):
    wanted = [oracle.normal(oracle.ranked(chain(), word, 0.9, direction)[PICTURE]) for word in WORDS]
    maps = concept_maps(chains.joint(), chains.WORDS, refine="tokenrank", alpha=0.9, direction=direction)
    np.testing.assert_allclose(maps.values.flatten(1), wanted, atol=1e-6)
    assert maps.certificate is not None
    assert bool(maps.certificate.converged.all())
    assert maps.certificate.converged.shape == (2,)


def test_the_word_alone_is_its_column_or_its_row():
    dense = chain()
    columns = [oracle.normal(dense[PICTURE][:, list(word)].sum(-1)) for word in WORDS]
    rows = [oracle.normal(dense[list(word)][:, PICTURE].sum(0)) for word in WORDS]
    np.testing.assert_allclose(found(refine=None), columns, atol=1e-7)
    np.testing.assert_allclose(found(refine=None, direction="forward"), rows, atol=1e-7)


def test_absorption_is_the_probability_of_coming_to_a_word_first():
    values = found(refine="absorption")
    np.testing.assert_allclose(values, oracle.absorbed(chain(), WORDS)[PICTURE].T, atol=1e-6)
    np.testing.assert_allclose(values.sum(0), 1, atol=1e-6)


def test_absorption_of_cross_attention_knows_the_other_words_too():
    maps = concept_maps(chains.crossing(), ["bus"], refine="absorption")
    dense = chains.crossing().to_dense()[0].numpy()
    kept = [token for token in range(19) if token not in (12, 17, 18)]
    part = dense[np.ix_(kept, kept)] / dense[np.ix_(kept, kept)].sum(-1, keepdims=True)
    wanted = oracle.absorbed(part, [(15,), (12,), (13,), (14,)])[:12, 0]
    np.testing.assert_allclose(maps.values.flatten(), wanted, atol=1e-6)
    assert float(maps.values.max()) < 1


def test_states_share_what_they_hold():
    grid, strings = (2, 6), ("<bos>", "cat", "bus")
    left = np.tile([1.0, 1, 1, 0, 0, 0], 2)
    picture = 0.98 * (np.outer(left, left) / 6 + np.outer(1 - left, 1 - left) / 6) + 0.02 / 12
    whole = np.zeros((15, 15))
    whole[3:, 3:] = 0.8 * picture
    noise = np.random.default_rng(0).random(12)
    whole[3:, 1] = 0.2 * noise * np.where(left, 0.9, 0.3)
    whole[3:, 2] = 0.2 - whole[3:, 1]
    whole[:3] = 1 / 15
    given_chain = tr.AttentionChain(whole[None], chains.layout(strings, grid))
    before = concept_maps(given_chain, ["cat"], n=1).values.flatten().double()
    after = concept_maps(given_chain, ["cat"], n=1, refine="metastable").values.flatten().double()
    inside = torch.from_numpy(left > 0)
    assert float(before[inside].std()) > 0.02
    assert float(after[inside].std()) < 1e-3  # even within a state, as the memberships are
    torch.testing.assert_close(after[inside].sum(), before[inside].sum(), atol=2e-2, rtol=0)


def split(a: np.ndarray, word: int, count: int, seed: int) -> np.ndarray:
    """The chain with token ``word`` as ``count`` tokens: who went there goes to one of them, all go where it went."""
    made = np.random.default_rng(seed)
    into = np.insert(a, [word] * (count - 1), 0, -1)
    into[:, word : word + count] = a[:, word : word + 1] * made.dirichlet(np.ones(count))[None]
    return np.insert(into, [word] * (count - 1), into[word], 0)


@settings(max_examples=20)
@given(
    st.integers(2, 5),
    st.integers(0, 1000),
    st.sampled_from(["bounce", "tokenrank", "absorption", None]),
    st.sampled_from(["forward", "backward"]),
    st.integers(1, 3),
)
def test_a_word_is_the_same_however_many_tokens_it_has(count, seed, refine, direction, n):
    dense = chains.attention(*chains.queries(1, ("<bos>", "shepherd", "bus"), seed=seed))[0]
    more = split(dense, 1, count, seed)
    pieces = ["shep", "her", "d", "s", "x"][: count - 1]
    strings = ("<bos>", *pieces, "end", "bus")
    word = " ".join(strings[1:-1])
    even = refine in ("bounce", "tokenrank") and direction == "backward"
    if even or refine is None:  # mass begins on all tokens evenly: those of a word are alike
        into = more[:, 1 : 1 + count].sum(-1, keepdims=True) / count
        more[:, 1 : 1 + count] = into
    options = {"refine": refine, "direction": direction, "n": n}
    one = concept_maps(
        tr.AttentionChain(dense[None], chains.layout(("<bos>", "shepherd", "bus"))), ["shepherd", "bus"], **options
    )
    other = concept_maps(tr.AttentionChain(more[None], chains.layout(strings)), [word, "bus"], **options)
    own = (one.values - other.values)[0].abs().max()
    assert float(own) <= 1e-6


def test_columns_too_small_for_a_quotient_are_left_to_logarithms(monkeypatch):
    plain = found(n=2)
    monkeypatch.setattr(room, "FAINT", {torch.float64: 1e9, torch.float32: 1e9})
    np.testing.assert_allclose(found(n=2), plain, atol=1e-7)
    monkeypatch.undo()
    logits = torch.zeros(1, 19, 19)
    logits[..., 4] = -200.0  # in single precision the column of "bus" is no number
    faint = tr.AttentionChain.from_scores(logits, chains.layout())
    maps = concept_maps(faint, ["bus"])
    np.testing.assert_allclose(maps.values.flatten(), np.full(12, 1 / 12), atol=1e-6)


def test_what_cannot_be_asked_is_refused():
    whole = np.full((1, 19, 19), 1 / 19)
    whole[:, 7:, 4] = 0
    whole /= whole.sum(-1, keepdims=True)
    unseen = tr.AttentionChain(whole, chains.layout())
    with pytest.raises(InputError, match="no attention between 'bus' and the picture, backward"):
        concept_maps(unseen, ["bus"], padding="keep", n=1)
    assert concept_maps(unseen, ["bus"], padding="keep", direction="forward").values.sum() == pytest.approx(1)
    with pytest.raises(InputError, match="forward: its map would be empty"):
        concept_maps(chains.crossing(), ["bus"], direction="forward")
    with pytest.raises(InputError, match="two words at"):
        concept_maps(chains.joint(), ["bus"], refine="absorption")
    with pytest.raises(InputError, match="share a token"):
        concept_maps(chains.joint(), ["german shepherd", "german"], refine="absorption")
    with pytest.raises(InputError, match="refine = 'rollout'"):
        concept_maps(chains.joint(), ["bus"], refine="rollout")
    for n in (0, -1, 1.5, True, "halflife"):
        with pytest.raises(InputError, match="bounces, expected"):
            concept_maps(chains.joint(), ["bus"], n=n)
    with pytest.raises(ChainError, match="direction"):
        concept_maps(chains.joint(), ["bus"], direction="sideways")
    with pytest.raises(ChainError, match="alpha"):
        concept_maps(chains.joint(), ["bus"], refine="tokenrank", alpha=1.5)


def test_a_walk_that_never_leaves_its_word_has_no_map() -> None:
    with pytest.raises(InputError, match=r"alpha = 0 with refine='tokenrank'.*expected above 0"):
        found(refine="tokenrank", alpha=0)
