"""Beside QuantEcon: stationary distributions, classes, periods, the stochastic complement's limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.peers.chains import IRREDUCIBLE, REDUCIBLE, Array, operator, random
from tokenrank.markov import classes, stationary, stationary_distributions

quantecon = pytest.importorskip("quantecon")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_stationary(name: str) -> None:
    """Both eliminate without subtractions: every entry to rounding."""
    a = IRREDUCIBLE[name]
    theirs = quantecon.MarkovChain(a).stationary_distributions
    ours = stationary_distributions(operator(a)).values.numpy()
    assert ours == pytest.approx(theirs, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", IRREDUCIBLE)
def test_teleported(name: str) -> None:
    a, alpha = IRREDUCIBLE[name], 0.99
    even = torch.full((len(a),), 1 / len(a), dtype=torch.float64)
    ours = stationary(operator(a), alpha, even, 1e-12, 5000)
    theirs = quantecon.MarkovChain(alpha * a + (1 - alpha) / len(a)).stationary_distributions[0]
    # the certificate is a promise about this very distance
    assert np.abs(ours.values.numpy() - theirs).sum() <= float(ours.certificate.error_bound)
    assert bool(ours.certificate.converged)


@pytest.mark.parametrize("name", REDUCIBLE)
def test_classes_and_periods(name: str) -> None:
    a = REDUCIBLE[name]
    theirs, ours = quantecon.MarkovChain(a), classes(operator(a))
    labels = ours.values.numpy()

    def members(which: Array) -> set[tuple[int, ...]]:
        return {tuple(np.flatnonzero(labels == c).tolist()) for c in which}

    assert members(np.unique(labels)) == {tuple(sorted(c)) for c in theirs.communication_classes_indices}
    assert members(np.flatnonzero(ours.recurrent)) == {tuple(sorted(c)) for c in theirs.recurrent_classes_indices}
    assert bool(ours.irreducible) == theirs.is_irreducible
    assert int(ours.chain_period) == theirs.period


@pytest.mark.parametrize("name", REDUCIBLE)
def test_every_stationary_distribution(name: str) -> None:
    a = REDUCIBLE[name]
    theirs = quantecon.MarkovChain(a).stationary_distributions
    ours = stationary_distributions(operator(a)).values.numpy()
    assert len(ours) == len(theirs)
    # either order of classes
    order = [int(np.abs(theirs - row).sum(1).argmin()) for row in ours]
    assert sorted(order) == list(range(len(theirs)))
    assert ours == pytest.approx(theirs[order], rel=1e-11, abs=1e-300)


def test_batch_in_place_of_a_loop() -> None:
    batch = np.stack(
        [random(12) @ random(12) for _ in range(1)] + [random(12, kind) for kind in ("peaky", "zeros", "cycle")]
    )
    ours = stationary_distributions(operator(batch))
    for i, a in enumerate(batch):
        theirs = quantecon.MarkovChain(a).stationary_distributions
        assert int(ours.count[i]) == len(theirs)
        assert np.sort(ours.values[i, : len(theirs)].numpy(), 0) == pytest.approx(np.sort(theirs, 0), abs=1e-12)


def test_nearly_reducible_to_1e_14() -> None:
    """Kandori, Mailath and Rob (1993), N = 3, ε = 1e-14, a test case of QuantEcon's."""
    a = strategic(3, 1 / 3, 1e-14)
    theirs = quantecon.MarkovChain(a).stationary_distributions[0]
    ours = stationary_distributions(operator(a)).values[0].numpy()
    assert ours == pytest.approx(theirs, rel=1e-12, abs=0)


def strategic(n: int, p: float, epsilon: float) -> Array:
    def reply(share: float) -> float:
        return epsilon / 2 + (1 - epsilon) * (0.5 if share == p else float(share > p))

    a = np.zeros((n + 1, n + 1))
    for x in range(n + 1):
        if x > 0:
            a[x, x - 1] = x / n * (1 - reply((x - 1) / (n - 1)))
        if x < n:
            a[x, x + 1] = (n - x) / n * reply(x / (n - 1))
        a[x, x] = 1 - a[x].sum()
    return a
