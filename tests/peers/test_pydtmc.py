"""Beside PyDTMC: times, absorption, Kemeny's constant, entropy rate, mixing, periods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.markov import oracles
from tests.peers.chains import IRREDUCIBLE, REDUCIBLE, Array, operator, ruin, six
from tokenrank.markov import (
    absorption,
    classes,
    entropy_rate,
    hitting_times,
    kemeny,
    lambda2,
    mean_first_passage,
    mixing_time,
    stationary_distributions,
)

pydtmc = pytest.importorskip("pydtmc")
pytestmark = pytest.mark.peers

SMALL = {name: a for name, a in IRREDUCIBLE.items() if len(a) <= 60}


def chain(a: Array):
    return pydtmc.MarkovChain(a)


@pytest.mark.parametrize("name", SMALL)
def test_stationary_and_entropy_rate(name: str) -> None:
    a, theirs = SMALL[name], chain(SMALL[name])
    assert stationary_distributions(operator(a)).values[0].numpy() == pytest.approx(theirs.steady_states[0], rel=1e-10)
    assert float(entropy_rate(operator(a)).values) == pytest.approx(theirs.entropy_rate, rel=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_mean_first_passage(name: str) -> None:
    a, theirs = SMALL[name], chain(SMALL[name])
    ours = mean_first_passage(operator(a))
    assert ours.values.numpy() == pytest.approx(theirs.mean_first_passage_times_to(), rel=1e-8)
    assert ours.return_times.numpy() == pytest.approx(theirs.mean_recurrence_times(), rel=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_hitting_times(name: str) -> None:
    a = SMALL[name]
    targets = torch.zeros(len(a), dtype=torch.bool)
    targets[[0, -1]] = True
    theirs = chain(a).hitting_times(["1", str(len(a))])
    assert hitting_times(operator(a), targets).values.numpy() == pytest.approx(theirs, rel=1e-8)


def test_hitting_where_some_never_get_there() -> None:
    """Token 2 gets to 0 half of the time, the cycle never: probability ½ and 0, expected time ∞."""
    a = six()
    targets = torch.arange(6) == 0
    ours, theirs = hitting_times(operator(a), targets), chain(a)
    assert ours.probabilities.tolist() == pytest.approx(theirs.hitting_probabilities("1"), abs=1e-12)
    assert ours.values.tolist() == theirs.hitting_times("1").tolist() == [0, 1, np.inf, np.inf, np.inf, np.inf]


@pytest.mark.parametrize("size", [3, 4, 7, 12])
def test_gamblers_ruin(size: int) -> None:
    a = ruin(size)
    theirs = chain(a)
    ends = torch.eye(size, dtype=torch.bool)[:, [0, size - 1]]
    ours = absorption(operator(a), ends)
    inner = slice(1, size - 1)
    assert ours.values[inner].numpy() == pytest.approx(np.asarray(theirs.absorption_probabilities()).T, abs=1e-12)
    assert ours.steps[inner].numpy() == pytest.approx(theirs.mean_absorption_times(), rel=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_kemeny(name: str) -> None:
    """Their ``kemeny_constant`` is the trace of an absorbing chain's fundamental matrix, None for these chains.

    Kemeny's constant is the mean passage to a token drawn from π; with M_ii = 1/π_i it would be one more.
    """
    a, theirs = SMALL[name], chain(SMALL[name])
    assert theirs.kemeny_constant is None
    pi, times = theirs.steady_states[0], theirs.mean_first_passage_times_to()
    found = float(kemeny(operator(a)).values)
    assert times @ pi == pytest.approx(np.full(len(a), found), rel=1e-8)
    times = times + np.diag(theirs.mean_recurrence_times())
    assert times @ pi == pytest.approx(np.full(len(a), found + 1), rel=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_mixing_time_and_gap(name: str) -> None:
    """Theirs is of one start and of the ℓ1 distance, twice the total variation; ours is of the worst start."""
    a, theirs = SMALL[name], chain(SMALL[name])
    pi = oracles.gth(a)
    ours = mixing_time(operator(a), 0.25)
    assert bool(ours.certificate.converged)
    steps, power = 0, np.eye(len(a))
    while 0.5 * np.abs(power - pi).sum(1).max() > 0.25:
        steps, power = steps + 1, power @ a
    assert int(ours.lower) == steps
    for start in range(len(a)):
        slower = theirs.mixing_time(np.eye(len(a))[start], cutoff_type="traditional")
        # to ℓ1 1/4, that is ε = 1/8, and counted from the first step on
        assert slower is None or slower <= int(mixing_time(operator(a), 0.125).values) + 1
    assert 1 - float(lambda2(operator(a)).values) == pytest.approx(theirs.spectral_gap, abs=1e-9)


@pytest.mark.parametrize("name", REDUCIBLE)
def test_classes(name: str) -> None:
    a = REDUCIBLE[name]
    ours, theirs = classes(operator(a)), chain(a)
    assert int(ours.count) == len(theirs.communicating_classes)
    recurrent = {str(i + 1) for i in np.flatnonzero(ours.recurrent_tokens)}
    lone = int(ours.count) == 1
    assert recurrent == set(theirs.recurrent_states) or lone
    assert int(ours.recurrent_count) == len(theirs.recurrent_classes)
