"""Chains whose answers are published: textbooks, QuantEcon, PyDTMC, networkx."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenrank.markov import lambda2, stationary
from tokenrank.operators import from_weights

Rows = list[list[float]]


def pi(rows: Rows, alpha: float = 1.0) -> np.ndarray:
    operator = from_weights(torch.tensor(rows, dtype=torch.float64))
    n = len(rows)
    answer = stationary(operator, alpha, torch.full((n,), 1 / n, dtype=torch.float64), 1e-13, 5000)
    assert bool(answer.certificate.converged), answer.certificate
    return answer.values.numpy()


def second(rows: Rows) -> float:
    return float(lambda2(from_weights(torch.tensor(rows, dtype=torch.float64))).values)


def test_two_states() -> None:
    rows = [[0.4, 0.6], [0.2, 0.8]]
    assert pi(rows) == pytest.approx([0.25, 0.75], abs=1e-12)
    assert second(rows) == pytest.approx(0.2, abs=1e-12)  # trace − 1


def test_six_states_in_two_classes() -> None:
    """0 ↔ 1; 2 → {0, 3}; 3 → 4 → 5 → 3. From the even start half of token 2's mass goes each way."""
    rows = np.zeros((6, 6))
    rows[[0, 1, 3, 4, 5], [1, 0, 4, 5, 3]] = 1
    rows[2, [0, 3]] = 0.5
    found = pi(rows.tolist())
    assert found[[0, 1]] == pytest.approx(found[0], abs=1e-12)
    assert found[[3, 4, 5]] == pytest.approx(found[3], abs=1e-12)
    assert found[2] == pytest.approx(0, abs=1e-12)
    assert second(rows.tolist()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "p", "epsilon"), [(27, 1 / 3, 1e-2), (3, 1 / 3, 1e-14)])
def test_kandori_mailath_rob(n: int, p: float, epsilon: float) -> None:
    """QuantEcon's test chain: n players give the best reply, or err with probability ε."""

    def reply(share: float) -> float:
        """The probability of playing 1 where this share of the others does."""
        best = 0.5 if share == p else float(share > p)
        return epsilon / 2 + (1 - epsilon) * best

    rows = np.zeros((n + 1, n + 1))
    for x in range(n + 1):  # players of 1; one of all n thinks again
        if x > 0:
            rows[x, x - 1] = x / n * (1 - reply((x - 1) / (n - 1)))
        if x < n:
            rows[x, x + 1] = (n - x) / n * reply(x / (n - 1))
        rows[x, x] = 1 - rows[x].sum()
    found = pi(rows.tolist())
    assert np.abs(found @ rows - found).sum() < 1e-13


def test_pydtmc_three_states() -> None:
    rows = [[0, 0.3, 0.7], [0.1, 0.5, 0.4], [0.1, 0.2, 0.7]]
    assert pi(rows) == pytest.approx([0.0909, 0.2987, 0.6104], abs=5e-5)
    assert 1 - second(rows) == pytest.approx(0.7, abs=1e-10)


def test_pydtmc_complex_eigenvalues() -> None:
    rows = [[0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.25, 0.5, 0.25]]
    assert 1 - second(rows) == pytest.approx(0.7763932, abs=5e-8)


def test_networkx_six_nodes() -> None:
    """networkx's own test graph at alpha = 0.9; node 2 has no way out and jumps anywhere."""
    edges = [(1, 2), (1, 3), (3, 1), (3, 2), (3, 5), (4, 5), (4, 6), (5, 4), (5, 6), (6, 4)]
    rows = np.zeros((6, 6))
    for a, b in edges:
        rows[a - 1, b - 1] = 1
    rows[1] = 1
    rows /= rows.sum(1, keepdims=True)
    expected = [0.03721197, 0.05395735, 0.04150565, 0.37508082, 0.20599833, 0.28624589]
    assert pi(rows.tolist(), 0.9) == pytest.approx(expected, abs=5e-9)


def test_two_absorbing_states_are_not_decided_silently() -> None:
    """deeptime 0.4.5 returns [0, 0, 1] here; from the even start the mass is shared."""
    assert pi([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]) == pytest.approx([0.5, 0, 0.5], abs=1e-12)


def test_block_diagonal() -> None:
    """(J₄/4) ⊕ [[.9, .1], [.1, .9]]: two classes, so |λ2| = 1."""
    rows = np.zeros((6, 6))
    rows[:4, :4] = 0.25
    rows[4:, 4:] = [[0.9, 0.1], [0.1, 0.9]]
    assert second(rows.tolist()) == pytest.approx(1, abs=1e-12)
