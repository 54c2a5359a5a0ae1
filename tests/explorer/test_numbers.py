"""Numbers of heads and of their mixture: against LAPACK and by hand, with the words for what they are worth."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.explorer.numbers import certificate_words, chain_numbers, head_numbers, head_ranks, thumbs
from tokenrank.markov import Certificate

PAIRS = [[0.9, 0.1, 0, 0], [0.1, 0.85, 0.05, 0], [0, 0.05, 0.85, 0.1], [0, 0, 0.1, 0.9]]


def heads_of(count: int, heads: int = 2, causal: bool = False, scale: float = 1.0) -> tr.AttentionChain:
    torch.manual_seed(0)
    q, k = scale * torch.randn(heads, count, 8), torch.randn(heads, count, 8)
    return tr.AttentionChain.from_qk(q, k, is_causal=causal)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("count", [12, 200])
def test_numbers_of_heads_are_those_of_lapack(count):
    chain = heads_of(count, scale=2)
    for head, told in enumerate(head_numbers(chain)):
        a = chain[head].operator.to_dense(torch.float64).numpy()
        moduli = np.sort(np.abs(np.linalg.eigvals(a)))[::-1]
        assert told["lambda2"] == pytest.approx(moduli[1], abs=5e-4)
        pi = np.linalg.matrix_power(a, 400)[0]
        assert told["entropy"] == pytest.approx(-(pi[:, None] * a * np.log2(a)).sum(), rel=1e-6)
        assert told["certificate"] == ("proved" if count == 12 else "checked")
        assert (told["bound"] is None) == (count == 200)


def test_a_given_answer_is_not_computed_again(monkeypatch):
    chain = heads_of(12)
    expected = head_numbers(chain)
    moduli, ranks = chain.lambda2(proved=False), head_ranks(chain)
    for name in ("modulus", "head_ranks"):
        monkeypatch.setattr(f"tokenrank.explorer.numbers.{name}", None)
    assert head_numbers(chain, lambda2=moduli, ranks=ranks) == expected


def test_a_sink_and_what_it_holds():
    logits = torch.zeros(2, 8, 8)
    logits[1, :, 3] = 4.0
    chain = tr.AttentionChain.from_scores(logits)
    even, drawn = head_numbers(chain)
    assert (even["sinks"], even["held"]) == ([], 0)
    assert drawn["sinks"] == [3]
    assert drawn["held"] == pytest.approx(float(chain[1].tokenrank(0.99).values[3]))
    assert even["entropy"] == pytest.approx(3)


def test_entropy_of_several_ends_is_that_of_an_even_start():
    two = torch.block_diag(torch.full((2, 2), 0.5), torch.eye(2)).double()  # half of the starts choose for ever
    split, joined = head_numbers(tr.AttentionChain(torch.stack([two, torch.full((4, 4), 0.25).double()])))
    assert split["entropy"] == pytest.approx(0.5)
    assert (split["lambda2"], split["certificate"]) == (1, "proved")
    assert joined["entropy"] == pytest.approx(2)


def test_words_of_certificates():
    yes, zero = torch.tensor([True, True, False]), torch.zeros(3)
    bound = torch.tensor([1e-9, torch.inf, 1e-2])
    assert certificate_words(Certificate(yes, zero, bound, 1, "power")) == ["proved", "checked", "uncertain"]
    assert certificate_words(Certificate(yes, zero, None, 1, "power")) == ["checked", "checked", "uncertain"]
    loose = Certificate(yes, zero, torch.full((3,), 0.1), 1, "power")
    assert certificate_words(loose) == ["checked", "checked", "uncertain"]


def test_a_ring_of_eigenvalues_is_uncertain():
    # a directed cycle of 700 states, hardly blurred: all eigenvalues lie about one circle
    ring = 0.999 * np.roll(np.eye(700), 1, axis=1) + 0.001 / 700
    told = head_numbers(tr.AttentionChain(ring[None]))[0]
    assert told["certificate"] == "uncertain"
    assert told["bound"] is None


def test_thumbs_of_pictures_are_their_patches_row_by_row():
    layout = tr.TokenLayout.image(2, 2)
    ranks = torch.tensor([[0.6, 0.04, 0.16, 0.08, 0.12]], dtype=torch.float64)
    assert thumbs(ranks, layout).tolist() == [[128, 255, 180, 221]]  # CLS is not among them
    assert thumbs(ranks, layout).dtype == torch.uint8
    turned = tr.TokenLayout({"image": 4}, {"image": (2, 2)}, order=(0, 2, 1, 3))
    assert thumbs(ranks[:, 1:], turned).tolist() == [[128, 180, 255, 221]]


def test_thumbs_leave_what_outshines_out_of_the_scale():
    ranks = torch.tensor([[0.01] * 10 + [0.9]], dtype=torch.float64)
    assert thumbs(ranks, None).tolist() == [[255] * 11]
    assert thumbs(torch.tensor([[0.25, 0.25, 0.25, 0.25]]), None).tolist() == [[255] * 4]
    assert thumbs(torch.tensor([[0.2, 0.2, 0.05, 0.3, 0.25]]), tr.TokenLayout.text(list("abcde"))).amax() == 255


def test_numbers_of_a_mixture():
    chain = heads_of(200, scale=2)
    told = chain_numbers(chain.aggregate([0.25, 0.75]), [0.25, 0.75])
    a = (torch.tensor([0.25, 0.75])[:, None, None] * chain.operator.to_dense(torch.float64)).sum(0).numpy()
    expected = sorted(np.linalg.eigvals(a), key=lambda z: -abs(z))
    assert told["unique"]
    assert told["lambda2"] == pytest.approx(abs(expected[1]), abs=5e-4)
    assert told["mixture"] == {"weights": [0.25, 0.75]}
    found = [complex(value["real"], value["imaginary"]) for value in told["spectrum"]]
    assert len(found) in (8, 9)
    assert found[0] == 1
    for value in found:
        assert min(abs(value - other) for other in expected) < 1e-6
    assert told["spectrum"][0]["certificate"] == "proved"
    assert told["spectrum"][0]["residual"] is None
    assert all(value["certificate"] == "checked" for value in told["spectrum"][1:])
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_uniqueness_is_exact():
    assert not chain_numbers(tr.AttentionChain(np.eye(2)), [1])["unique"]  # two classes
    assert not chain_numbers(tr.AttentionChain([[0.0, 1.0], [1.0, 0.0]]), [1])["unique"]  # period two
    assert chain_numbers(tr.AttentionChain([[0.0, 1.0], [0.5, 0.5]]), [1])["unique"]
    assert chain_numbers(heads_of(6, causal=True)[0], [1, 0])["unique"]
    late = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]  # the recurrent class has period two
    assert not chain_numbers(tr.AttentionChain(late), [1])["unique"]


def test_a_softmax_that_underflows_is_no_class_of_its_own():
    q = torch.tensor([[[60.0], [-60.0]]])
    chain = tr.AttentionChain.from_qk(q, q, scale=1.0)[0]
    assert float(chain.operator.to_dense(torch.float64)[0, 1]) == 0  # exp(−7,200)
    told = chain_numbers(chain, [1.0])
    assert told["unique"]
    assert told["classes"]["recurrent"] == [[0, 1]]


def test_what_is_no_mixture_is_refused():
    with pytest.raises(ChainError, match=r"expected one mixed chain"):
        chain_numbers(heads_of(4), [0.5, 0.5])
    with pytest.raises(ChainError, match=r"sum to 0.5"):
        chain_numbers(heads_of(4)[0], [0.5, 0])
