"""Beside networkx: PageRank with personalisation, and where it stops too early."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.markov import heads
from tests.peers.chains import IRREDUCIBLE, Array, operator
from tokenrank import AttentionChain
from tokenrank.markov import stationary

networkx = pytest.importorskip("networkx")
pytest.importorskip("scipy")  # networkx.pagerank needs it
pytestmark = pytest.mark.peers


def pagerank(a: Array, alpha: float, jump: Array | None = None, tol: float = 1e-14) -> Array:
    graph = networkx.from_numpy_array(a, create_using=networkx.DiGraph)
    personal = None if jump is None else dict(enumerate(jump))
    found = networkx.pagerank(graph, alpha=alpha, personalization=personal, tol=tol, max_iter=20000)
    return np.array([found[i] for i in range(len(a))])


@pytest.mark.parametrize("alpha", [0.5, 0.85, 0.99])
@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_pagerank(name: str, alpha: float) -> None:
    a = IRREDUCIBLE[name]
    n = len(a)
    jump = np.random.default_rng(n).dirichlet(np.ones(n))
    ours = stationary(operator(a), alpha, torch.from_numpy(jump), 1e-11, 5000)
    assert bool(ours.certificate.converged)
    # they stop at a change of N tol in ℓ1
    slack = n * 1e-14 * alpha / (1 - alpha)
    assert np.abs(ours.values.numpy() - pagerank(a, alpha, jump)).sum() <= 1e-11 + slack


@pytest.mark.parametrize(
    "weights",
    [{0: 1}, {0: 1, 1: 1, 2: 1}, {0: 3, 2: 5}, {1: 1e-3, 2: 1e3}, {0: 0, 1: 0.5, 2: 0}],
)
def test_personalization_means_the_same(weights: dict[int, float]) -> None:
    a = np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])
    graph = networkx.from_numpy_array(a, create_using=networkx.DiGraph)
    theirs = networkx.pagerank(graph, alpha=0.85, personalization=weights, tol=1e-14, max_iter=20000)
    for ours in (weights, [float(weights.get(i, 0)) for i in range(3)]):
        found = AttentionChain(torch.from_numpy(a)).tokenrank(0.85, personalization=ours, tol=1e-12).values
        assert found.tolist() == pytest.approx([theirs[i] for i in range(3)], abs=1e-12)


def test_stops_where_nothing_has_converged() -> None:
    """The default tolerance is 1e-6 a token: 256 tokens may be off by 2.6e-4 a step, times α/(1 − α)."""
    a = heads.nine_heads()["1-D local"]
    alpha, even = 0.99, torch.full((256,), 1 / 256, dtype=torch.float64)
    ours = stationary(operator(a), alpha, even, 1e-6, 5000)
    exact = pagerank(a, alpha)
    theirs = np.abs(pagerank(a, alpha, tol=1e-6) - exact).sum()
    assert float(ours.certificate.error_bound) <= 1e-6
    assert np.abs(ours.values.numpy() - exact).sum() <= 1e-6
    assert theirs > 1e-3
