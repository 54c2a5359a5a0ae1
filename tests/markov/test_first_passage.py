"""Bounces from each token to each other: published numbers, dense solves, rational numbers."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tokenrank.errors import ChainError
from tokenrank.markov import FirstPassage, mean_first_passage
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Product, from_query_key, from_weights

from . import heads, oracles, rational
from .strategies import chains, make


def expected(a: Tensor) -> Tensor:
    """All pairs of one irreducible chain from its fundamental matrix: (Z_jj − Z_ij)/π_j."""
    pi = torch.from_numpy(oracles.gth(a.numpy()))
    z = torch.linalg.inv(torch.eye(len(a), dtype=torch.float64) - a + pi)
    return (z.diagonal() - z) / pi


def test_three_states_of_pydtmc() -> None:
    a = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.4, 0.1, 0.5]], dtype=torch.float64)
    found = mean_first_passage(from_weights(a))
    known = torch.tensor([[0, 3.75, 4.5455], [3.3333, 0, 2.7273], [2.6667, 5, 0]], dtype=torch.float64)
    assert torch.allclose(found.values, known, atol=5e-5)
    assert torch.allclose(1 / found.return_times, torch.from_numpy(oracles.gth(a.numpy())), rtol=1e-14)
    assert found.tokens.tolist() == [0, 1, 2]


def test_a_ring() -> None:
    """i → i + 1: the way from i to j is j − i modulo N, and back takes N."""
    found = mean_first_passage(Dense(torch.eye(40, dtype=torch.float64).roll(1, 1)))
    i = torch.arange(40)
    assert torch.equal(found.values, ((i - i[:, None]) % 40).double())
    assert (found.return_times == 40).all()


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 65])
def test_sizes_around_those_of_the_halves(n: int) -> None:
    a = torch.from_numpy(np.random.default_rng(n).dirichlet(np.ones(n), (2, n)))
    found = mean_first_passage(Dense(a))
    for head in range(2):
        assert torch.allclose(found.values[head], expected(a[head]), rtol=1e-9)
    assert found.certificate.residual.shape == (2, n)


def certified(found: FirstPassage, a: Tensor, tol: float = 1e-8) -> None:
    exact = torch.stack([expected(m) for m in a])[..., found.tokens]
    error = (found.values - exact).abs().amax(-2)
    assert found.certificate.error_bound is not None
    assert found.certificate.converged.all()
    assert (error <= found.certificate.error_bound + 1e-11 * exact.amax(-2)).all()
    assert (error <= 1e-10 * exact.amax(-2).clamp(min=1)).all()
    assert (found.certificate.error_bound <= tol * exact.amax(-2).clamp(min=1)).all()


def test_nine_heads() -> None:
    weights = heads.stacked()
    found = mean_first_passage(Dense(weights))
    certified(found, weights)
    pi = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))
    assert torch.allclose(1 / found.return_times, pi, rtol=1e-12, atol=0)


TOKENS = torch.tensor([200, 3, 0, 77])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_some_targets_in_any_order(dtype: torch.dtype, matrix_free: None) -> None:
    operator = heads.as_query_key(heads.stacked(dtype))
    found = mean_first_passage(operator, TOKENS, tol=1e-4)
    assert found.values.shape == (9, heads.N, 4)
    assert (found.values[:, TOKENS, torch.arange(4)] == 0).all()
    certified(found, operator.to_dense(torch.float64), 1e-4)  # logits of 256 terms: up to 4e-9 of an entry


def test_many_tokens_are_solved_target_by_target(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = heads.stacked()
    eliminated = mean_first_passage(Dense(weights), TOKENS)
    monkeypatch.setattr(constants, "PASSAGE_LARGEST", 100)
    found = mean_first_passage(Dense(weights), TOKENS)
    certified(found, weights)
    assert torch.allclose(found.return_times, eliminated.return_times, rtol=1e-8)
    with pytest.raises(ChainError, match="all pairs of 256 tokens"):
        mean_first_passage(Dense(weights))


def test_causal_walks_never_come_back() -> None:
    operator = from_query_key(*torch.randn(2, 2, 2, 40, 8), None, None, True)
    found = mean_first_passage(operator)
    assert torch.isfinite(found.values[..., 0]).all()
    assert found.return_times[..., 0].tolist() == [[1, 1], [1, 1]]
    assert (found.return_times[..., 1:] == torch.inf).all()
    off = ~torch.eye(40, dtype=torch.bool)[:, 1:]
    assert (found.values[..., 1:][..., off] == torch.inf).all()
    assert found.certificate.error_bound is not None
    assert torch.isfinite(found.certificate.error_bound).all()


@settings(max_examples=120)
@given(chains(largest=7))
def test_against_rational_numbers(a: np.ndarray) -> None:
    """Entry by entry, however rare a way is; ∞ exactly where the walk may miss its target."""
    n, p = len(a), rational.chain(a)
    found = mean_first_passage(from_weights(torch.from_numpy(a)))
    assert not torch.isnan(found.values).any()
    for j in range(n):
        _, misses = rational.missing(a, {j})
        walking = [i for i in range(n) if i != j and i not in misses]
        exact = rational.killed(p, walking, [[Fraction(1)] for _ in walking])
        for i in range(n):
            assert (float(found.values[i, j]) == np.inf) == (i in misses), (i, j)
            if i in exact:
                assert float(found.values[i, j]) == pytest.approx(float(exact[i][0]), rel=1e-11)
        back = set(nx.descendants(rational.graph(a), j)) - {j}
        if back & misses:
            assert found.return_times[j] == np.inf
        else:
            around = 1 + sum((p[j][i] * exact[i][0] for i in back if i in exact), Fraction(0))
            assert float(found.return_times[j]) == pytest.approx(float(around), rel=1e-11)


@pytest.mark.parametrize("leak", [1e-4, 1e-12, 1e-100])
def test_nearly_separate_groups_cancel_nothing(leak: float) -> None:
    """Within a group a walk takes about as long as if it could not leave, joined to others or not."""
    n = 40
    a = make("nearly reducible", n, np.random.default_rng(3), leak)
    found = mean_first_passage(Dense(torch.from_numpy(a)))
    for j in (0, 13, 39):
        rest = [i for i in range(n) if i != j]
        with mpmath.workdps(400):
            system = mpmath.matrix((-a[np.ix_(rest, rest)]).tolist())
            for place, i in enumerate(rest):
                system[place, place] = mpmath.fsum(a[i, k] for k in range(n) if k != i)
            exact = mpmath.lu_solve(system, mpmath.ones(n - 1, 1))
        assert found.values[rest, j].tolist() == pytest.approx([float(x) for x in exact], rel=1e-11)


def test_products_of_layers() -> None:
    layers = torch.rand(2, 3, 30, 30, dtype=torch.float64).softmax(-1)
    product = Product([Dense(layers[0]), Dense(layers[1])])
    certified(mean_first_passage(product), layers[0] @ layers[1])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.tensor([0.5]), "expected indices"),
        (torch.tensor([[0]]), "expected indices"),
        (torch.tensor([], dtype=torch.int64), "expected indices"),
        (torch.tensor([3]), "from 0 to 2"),
        (torch.tensor([-1]), "from 0 to 2"),
        (torch.tensor([1, 1]), "different"),
    ],
)
def test_tokens_that_make_no_sense(tokens: Tensor, words: str) -> None:
    with pytest.raises(ChainError, match=words):
        mean_first_passage(Dense(torch.eye(3)), tokens)
