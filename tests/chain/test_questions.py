"""The Markov vocabulary as methods: layouts, words and spans in, results out."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank import AttentionChain, TokenLayout
from tokenrank.errors import ChainError, NotUniqueWarning
from tokenrank.markov import half_life

N = 8
TEXT = TokenLayout.text(["[CLS]", "a", "cat", "sat", "here", "by", "the", "[SEP]"])


def weights(*batch: int) -> Tensor:
    return torch.randn(*batch, N, N, dtype=torch.float64).mul(2).softmax(-1)


@pytest.fixture
def chain() -> AttentionChain:
    return AttentionChain(weights(2, 3), TEXT)


def test_bounces_by_half_life_take_every_head_its_own_way(chain: AttentionChain) -> None:
    v = torch.eye(N, dtype=torch.float64)[2].expand(2, 3, N)
    steps = half_life(chain.operator, v).values
    found = chain.bounce("cat", "halflife")
    way = chain.bounce("cat", "halflife", path=True).values
    assert len(way) == int(steps.max()) + 1
    for i in range(2):
        for j in range(3):
            expected = chain[i, j].bounce("cat", int(steps[i, j])).values
            assert torch.allclose(found.values[i, j], expected, atol=1e-12)
            assert torch.allclose(way[int(steps[i, j]) :, i, j], expected.expand(len(way) - int(steps[i, j]), -1))


@pytest.mark.parametrize("n", [-1, 1.5, True, "plateau", None])
def test_bounces_that_are_no_number_and_no_half_life(chain: AttentionChain, n: object) -> None:
    with pytest.raises(ChainError, match="expected a whole number ≥ 0 or 'halflife'"):
        chain.bounce("cat", n)  # type: ignore[arg-type]


def test_lazy_and_censored(chain: AttentionChain) -> None:
    assert torch.allclose(chain.lazy(0.25).to_dense(), 0.75 * torch.eye(N) + 0.25 * chain.to_dense())
    rest = chain.restrict(range(1, N), how="censor")
    assert rest.layout is not None
    assert rest.layout.tokens == TEXT.tokens[1:]
    whole = chain.tokenrank(alpha=1, tol=1e-10).values[..., 1:]
    assert torch.allclose(rest.tokenrank(alpha=1, tol=1e-10).values, whole / whole.sum(-1, keepdim=True), atol=1e-8)


def test_a_causal_sink_cannot_be_censored_before_the_jump() -> None:
    a = weights().tril()
    chain = AttentionChain(a / a.sum(-1, keepdim=True), TEXT)
    with pytest.raises(ChainError, match="teleport first"):
        chain.restrict(range(1, N), how="censor")
    rest = chain.teleport(0.9).restrict(range(1, N), how="censor")
    whole = chain.tokenrank(alpha=0.9, tol=1e-10).values[1:]
    assert torch.allclose(rest.tokenrank(alpha=1, tol=1e-10).values, whole / whole.sum(), atol=1e-8)


def test_absorption_in_words_and_in_named_sets(chain: AttentionChain) -> None:
    found = chain.absorption([0, 7])
    assert found.values.shape == (2, 3, N, 2)
    assert torch.allclose(found.values.sum(-1), torch.ones(2, 3, N, dtype=torch.float64))
    sets = chain.absorption({"ends": [0, 7], "animal": "cat"})
    assert sets.values.shape == (2, 3, N, 2)
    assert torch.equal(sets.values[..., 2, :], torch.tensor([0.0, 1.0]).double().expand(2, 3, 2))
    times = chain.hitting_times("cat")
    assert (times.values[..., 2] == 0).all()
    assert times.layout is TEXT
    assert times.certificate is not None
    assert times.certificate.converged.all()
    with pytest.raises(ChainError, match="no targets given"):
        chain.absorption({})


def test_soft_segmentation() -> None:
    """Absorption in words by way of the image's own attention, and what cannot be reached."""
    a, c = weights(), torch.randn(N, 3, dtype=torch.float64).softmax(-1)
    c[:, 1] = 0
    c = c / c.sum(-1, keepdim=True)
    image = AttentionChain(a, TokenLayout({"image": N}, {"image": (2, 4)}))
    found = tr.bipartite(image, c, step=0.3, text=["a", "cat", "mat"]).absorption("text")
    expected = torch.linalg.solve(torch.eye(N, dtype=torch.float64) - 0.7 * a, 0.3 * c)
    assert torch.allclose(found.values[:N], expected, atol=1e-12)
    assert found.unreached.tolist() == [False, True, False]
    assert found.certificate.converged
    assert torch.allclose(found.steps[:N], torch.full((N,), 1 / 0.3, dtype=torch.float64))


def test_not_unique_is_said(chain: AttentionChain) -> None:
    two = torch.zeros(4, 4, dtype=torch.float64)
    two[:2, :2] = two[2:, 2:] = 0.5
    split = AttentionChain(two)
    with pytest.warns(NotUniqueWarning, match=r"several recurrent classes \(up to 2\)"):
        split.tokenrank(alpha=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotUniqueWarning)
        split.tokenrank(alpha=0.99)
        told = split.tokenrank(alpha=1, personalization={0: 1})  # it was said where the walk begins
    assert torch.allclose(told.values, torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotUniqueWarning)
        chain.tokenrank(alpha=1)
    found = split.stationary_distributions()
    assert int(found.count) == 2
    assert found.values.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    assert not found.unique
    classes = split.classes()
    assert classes.values.tolist() == [0, 0, 1, 1]


def test_numbers_have_the_leading_dimensions(chain: AttentionChain) -> None:
    assert chain.kemeny().values.shape == (2, 3)
    assert chain.entropy_rate().values.shape == (2, 3)
    assert chain.dobrushin().values.shape == (2, 3)
    assert chain.mixing_time().lower.shape == (2, 3)
    assert chain.metastable(2).values.shape[:3] == (2, 3, N)
    assert chain.spectrum(3).values.shape[:2] == (2, 3)
    assert chain.half_life("cat").values.shape == (2, 3)
    assert chain.mean_first_passage("cat").values.shape == (2, 3, N, 1)
    assert chain.fundamental(torch.ones(N, 1)).values.shape == (2, 3, N, 1)
    assert chain.quasi_stationary("[CLS]").values.shape == (2, 3, N)
    with pytest.raises(ChainError, match="one row a token"):
        chain.fundamental(torch.ones(3, 1))
