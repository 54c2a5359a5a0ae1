"""The same chains through QuantEcon, PyDTMC, deeptime, pyGPCCA and networkx, where they are installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.markov import heads, strategies
from tokenrank.markov import (
    absorption,
    classes,
    entropy_rate,
    extreme_stationary,
    hitting_times,
    kemeny,
    mean_first_passage,
    metastable,
    stationary,
)
from tokenrank.operators import from_weights

pytestmark = pytest.mark.peers

RANDOM = [strategies.make("random", n, np.random.default_rng(n), 0.0) for n in (3, 8, 25)]
SLOW = [heads.nine_heads()[name] for name in ("3 clusters", "2-D local")]
SIX = np.zeros((6, 6))
SIX[[0, 1, 3, 4, 5], [1, 0, 4, 5, 3]] = 1
SIX[2, [0, 3]] = 0.5
NOT_UNIQUE = np.array([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1.0]])
TWO_BLOCKS = np.zeros((6, 6))
TWO_BLOCKS[:4, :4] = 0.25
TWO_BLOCKS[4:, 4:] = [[0.9, 0.1], [0.1, 0.9]]
RUIN = np.array([[1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 0, 1.0]])
BIRTH_DEATH = np.array([[0, 1, 0, 0], [0.3, 0, 0.7, 0], [0, 0.5, 0, 0.5], [0, 0, 0.6, 0.4]])


def operator(a: np.ndarray):
    return from_weights(torch.from_numpy(np.asarray(a, dtype=np.float64)))


@pytest.mark.parametrize("a", [*RANDOM, *SLOW], ids=lambda a: str(len(a)))
def test_quantecon_stationary(a: np.ndarray) -> None:
    quantecon = pytest.importorskip("quantecon")
    theirs = quantecon.MarkovChain(a).stationary_distributions
    ours = extreme_stationary(operator(a)).values.numpy()
    assert np.abs(ours - theirs).max() < 1e-13


@pytest.mark.parametrize("a", [SIX, TWO_BLOCKS, NOT_UNIQUE], ids=["six", "two blocks", "not unique"])
def test_quantecon_classes(a: np.ndarray) -> None:
    quantecon = pytest.importorskip("quantecon")
    theirs, ours = quantecon.MarkovChain(a), classes(operator(a))
    assert int(ours.count) == theirs.num_communication_classes
    assert int(ours.recurrent_count) == theirs.num_recurrent_classes
    assert {tuple(c) for c in theirs.recurrent_classes_indices} == {
        tuple(np.flatnonzero(ours.labels.numpy() == c)) for c in np.flatnonzero(ours.recurrent.numpy())
    }
    found = extreme_stationary(operator(a)).values.numpy()
    assert np.abs(np.sort(found, 0) - np.sort(theirs.stationary_distributions, 0)).max() < 1e-12
    assert int(ours.chain_period) == theirs.period


@pytest.mark.parametrize("a", RANDOM, ids=lambda a: str(len(a)))
def test_pydtmc(a: np.ndarray) -> None:
    pydtmc = pytest.importorskip("pydtmc")
    theirs = pydtmc.MarkovChain(a)
    assert np.abs(extreme_stationary(operator(a)).values[0].numpy() - theirs.steady_states[0]).max() < 1e-10
    assert float(entropy_rate(operator(a)).values) == pytest.approx(theirs.entropy_rate, rel=1e-9)
    passage = mean_first_passage(operator(a)).values.numpy()
    assert passage == pytest.approx(np.asarray(theirs.mean_first_passage_times_to()), rel=1e-8)
    # Kemeny's constant is the mean passage to a token drawn from π; PyDTMC 8.7's own property gives None here
    assert float(kemeny(operator(a)).values) == pytest.approx(passage[0] @ theirs.steady_states[0], rel=1e-9)


def test_pydtmc_absorption() -> None:
    pydtmc = pytest.importorskip("pydtmc")
    theirs = pydtmc.MarkovChain(RUIN)
    found = absorption(operator(RUIN), torch.eye(4, dtype=torch.bool)[:, [0, 3]])
    assert pytest.approx(np.asarray(theirs.absorption_probabilities()), abs=1e-12) == found.probabilities[1:3].numpy().T
    assert found.steps[1:3].tolist() == pytest.approx(list(theirs.mean_absorption_times()), abs=1e-12)


def test_deeptime() -> None:
    analysis = pytest.importorskip("deeptime.markov.tools.analysis")
    for a in [*RANDOM, BIRTH_DEATH]:
        theirs = analysis.stationary_distribution(a)
        assert np.abs(extreme_stationary(operator(a)).values[0].numpy() - theirs).max() < 1e-9
        target = torch.zeros(len(a), dtype=torch.bool)
        target[0] = True
        ours = hitting_times(operator(a), target).values.numpy()
        assert ours == pytest.approx(analysis.mfpt(a, 0), rel=1e-9, abs=1e-12)


def test_deeptime_picks_one_of_many() -> None:
    """One of two stationary vectors comes back without a word; here there are two."""
    analysis = pytest.importorskip("deeptime.markov.tools.analysis")
    theirs = analysis.stationary_distribution(NOT_UNIQUE, check_inputs=False)
    assert theirs.tolist() == pytest.approx([0, 0, 1])
    found = extreme_stationary(operator(NOT_UNIQUE))
    assert int(found.count) == 2
    assert found.values.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_deeptime_cannot_split_two_blocks() -> None:
    analysis = pytest.importorskip("deeptime.markov")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it raises: the order of its eigenvalues is at fault
        analysis.pcca(TWO_BLOCKS, 2)
    found = metastable(operator(TWO_BLOCKS), 2)
    assert found.labels.tolist() in ([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0])
    assert float(found.crispness) == pytest.approx(1, abs=1e-9)


def test_networkx_pagerank() -> None:
    networkx = pytest.importorskip("networkx")
    pytest.importorskip("scipy")  # networkx.pagerank needs it
    for a in RANDOM:
        graph = networkx.from_numpy_array(a, create_using=networkx.DiGraph)
        theirs = networkx.pagerank(graph, alpha=0.9, tol=1e-14, max_iter=1000)
        even = torch.full((len(a),), 1 / len(a), dtype=torch.float64)
        ours = stationary(operator(a), 0.9, even, 1e-12, 5000).values
        assert ours.tolist() == pytest.approx([theirs[i] for i in range(len(a))], abs=1e-11)
