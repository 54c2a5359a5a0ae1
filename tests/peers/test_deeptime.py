"""Beside deeptime: stationary distributions, passage, committors, spectra, PCCA+; and where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.markov import oracles
from tests.peers.chains import IRREDUCIBLE, NOT_UNIQUE, operator, reversible, six, two_blocks
from tokenrank.markov import absorption, hitting_times, metastable, spectrum, stationary_distributions

deeptime = pytest.importorskip("deeptime.markov")
analysis = pytest.importorskip("deeptime.markov.tools.analysis")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_stationary(name: str) -> None:
    a = IRREDUCIBLE[name]
    theirs = analysis.stationary_distribution(a)
    ours = stationary_distributions(operator(a)).values[0].numpy()
    assert np.abs(ours - theirs).sum() < 1e-10
    # by elimination, entry by entry; theirs is a solution of a nearly singular system
    exact = oracles.gth(a)
    assert (np.abs(ours - exact) / exact).max() <= max(1e-12, (np.abs(theirs - exact) / exact).max())


@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_passage_and_committor(name: str) -> None:
    a = IRREDUCIBLE[name]
    n = len(a)
    target = torch.arange(n) == 0
    assert hitting_times(operator(a), target).values.numpy() == pytest.approx(analysis.mfpt(a, 0), rel=1e-8, abs=1e-12)
    ends = torch.eye(n, dtype=torch.bool)[:, [0, n - 1]]
    if n > 2:
        ours = absorption(operator(a), ends).values[:, 1].numpy()
        assert ours == pytest.approx(analysis.committor(a, [0], [n - 1]), abs=1e-9)


def test_birth_and_death() -> None:
    """deeptime's own test chain and the closed forms."""
    p1, p2, q2, q3 = 0.7, 0.5, 0.4, 0.6
    a = np.array([[1 - p1, p1, 0], [q2, 1 - q2 - p2, p2], [0, q3, 1 - q3]])
    found = hitting_times(operator(a), torch.arange(3) == 0).values.numpy()
    assert found == pytest.approx([0, (p2 + q3) / (q2 * q3), (p2 + q2 + q3) / (q2 * q3)], rel=1e-12)
    assert found == pytest.approx(analysis.mfpt(a, 0), rel=1e-12)
    b = np.array([[1, 0, 0, 0], [0.1, 0.8, 0.1, 0], [0, 0, 0.8, 0.2], [0, 0, 0.2, 0.8]])
    target = torch.tensor([False, False, True, True])
    ours = hitting_times(operator(b), target).probabilities.numpy()
    assert ours == pytest.approx([0, 0.5, 1, 1], abs=1e-12)
    assert ours == pytest.approx(analysis.hitting_probability(b, [2, 3]), abs=1e-12)


@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_eigenvalues(name: str) -> None:
    a = IRREDUCIBLE[name]
    k = min(6, len(a))
    ours = spectrum(operator(a), k)
    theirs = analysis.eigenvalues(a)
    theirs = np.sort(np.abs(theirs))[::-1]
    assert ours.values.abs()[:k].numpy() == pytest.approx(theirs[:k], abs=1e-7)
    assert bool(ours.certificate.uncertain) is False


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("n", [8, 20])
def test_pcca_of_reversible_chains_is_no_less_crisp(n: int, m: int) -> None:
    """Both maximise crispness, deeptime with respect to π and from where Nelder–Mead takes it."""
    a = 0.5 * np.eye(n) + 0.5 * reversible(n)
    pi = oracles.gth(a)
    ours = metastable(operator(a), m, reference=torch.from_numpy(pi))
    chi = deeptime.pcca(a, m).memberships
    theirs = np.trace((chi.T * pi) @ chi / (pi @ chi)[:, None]) / m
    assert float(ours.crispness) >= theirs - 1e-9


def test_picks_one_of_several_stationary_vectors_silently() -> None:
    """[[1, 0, 0], [½, 0, ½], [0, 0, 1]]: any mixture is stationary. It is weakly connected, so no check objects."""
    assert analysis.stationary_distribution(NOT_UNIQUE).tolist() == pytest.approx([0, 0, 1])
    found = stationary_distributions(operator(NOT_UNIQUE))
    assert found.values.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert not bool(found.unique)


def test_pcca_of_two_blocks_raises() -> None:
    """Eigenvalues of the blocks are put in ascending order there, so that the smallest decide."""
    even = np.full(6, 1 / 6)
    with pytest.raises(RuntimeError, match="spuriously has 0 pcca sets"):
        deeptime.pcca(two_blocks(), 2, stationary_distribution=even)
    with pytest.raises(ValueError, match="not weakly connected"):  # without π it does not get that far
        deeptime.pcca(two_blocks(), 2)
    found = metastable(operator(two_blocks()), 2)
    assert found.labels.tolist() in ([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0])
    assert float(found.crispness) == pytest.approx(1, abs=1e-9)


def test_refuses_chains_that_are_not_reversible() -> None:
    a = IRREDUCIBLE["3 clusters"]
    with pytest.raises(ValueError, match="detailed balance"):
        deeptime.pcca(a, 3)
    found = metastable(operator(a), 3)
    assert float(found.crispness) > 0.9
    assert sorted(torch.bincount(found.labels).tolist())[0] > 50


def test_hitting_probability_of_a_closed_cycle_is_a_singular_system() -> None:
    """Tokens 3, 4, 5 never get to 0; the system for them is singular, the smallest solution is 0."""
    with pytest.raises(np.linalg.LinAlgError):
        analysis.hitting_probability(six(), 0)
    found = hitting_times(operator(six()), torch.arange(6) == 0)
    assert found.probabilities.tolist() == pytest.approx([1, 1, 0.5, 0, 0, 0], abs=1e-12)
