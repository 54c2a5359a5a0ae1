"""Expected bounces until a set of tokens, and whether the walk gets there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tokenrank.errors import ChainError
from tokenrank.markov import hitting_times
from tokenrank.operators import Dense, from_query_key, from_weights

from . import heads, rational
from .strategies import chains


def among(n: int, *tokens: int) -> torch.Tensor:
    out = torch.zeros(n, dtype=torch.bool)
    out[list(tokens)] = True
    return out


def test_birth_and_death() -> None:
    """deeptime's chain: bounces to token 0 are [0, (p₂ + q₃)/(q₂q₃), (p₂ + q₂ + q₃)/(q₂q₃)]."""
    p1, p2, q2, q3 = 0.7, 0.5, 0.4, 0.6
    a = torch.tensor([[1 - p1, p1, 0], [q2, 1 - q2 - p2, p2], [0, q3, 1 - q3]], dtype=torch.float64)
    found = hitting_times(from_weights(a), among(3, 0))
    assert found.values.tolist() == pytest.approx([0, (p2 + q3) / (q2 * q3), (p2 + q2 + q3) / (q2 * q3)], rel=1e-14)
    assert found.probabilities.tolist() == [1, 1, 1]


def test_a_closed_set_and_a_way_past_it() -> None:
    """deeptime's chain: from token 1 half of the walks get to {2, 3}."""
    a = torch.tensor([[1, 0, 0, 0], [0.1, 0.8, 0.1, 0], [0, 0, 0.8, 0.2], [0, 0, 0.2, 0.8]], dtype=torch.float64)
    found = hitting_times(from_weights(a), among(4, 2, 3))
    assert found.probabilities.tolist() == pytest.approx([0, 0.5, 1, 1], abs=1e-15)
    assert found.values.tolist() == [torch.inf, torch.inf, 0, 0]


def test_a_ring_is_walked_once_around() -> None:
    found = hitting_times(Dense(torch.eye(7).roll(1, 1)), among(7, 0))
    assert found.values.tolist() == [0, 6, 5, 4, 3, 2, 1]


def test_nine_heads(way: str) -> None:
    weights, targets = heads.stacked(), among(heads.N, 0, 77, 200)
    found = hitting_times(Dense(weights), targets)
    q = torch.where(~targets, weights, 0.0)
    expected = torch.linalg.solve(torch.eye(heads.N).double() - q, (~targets).double().expand(9, -1)[..., None])
    expected = torch.where(targets, 0.0, expected[..., 0])
    assert ((found.values - expected).abs().amax(-1) <= 1e-8 * expected.amax(-1)).all()
    assert found.certificate.error_bound is not None
    assert ((found.values - expected).abs().amax(-1) <= found.certificate.error_bound + 1e-10).all()
    assert (found.probabilities == 1).all()


def test_causal_walks_move_to_the_front() -> None:
    operator = from_query_key(*torch.randn(2, 3, 50, 8), None, None, True)
    found = hitting_times(operator, among(50, 0))
    assert (found.probabilities == 1).all()
    assert torch.isfinite(found.values).all()
    later = hitting_times(operator, among(50, 20))
    assert (later.values[..., :20] == torch.inf).all()
    assert (later.probabilities[..., :20] == 0).all()
    assert (later.values[..., 21:] == torch.inf).all()  # the walk may step over token 20
    assert ((later.probabilities[..., 21:] > 0) & (later.probabilities[..., 21:] < 1)).all()


@settings(max_examples=100)
@given(chains(largest=9))
def test_against_rational_numbers(a: np.ndarray) -> None:
    n = len(a)
    targets = set(range(0, n, 4))
    found = hitting_times(from_weights(torch.from_numpy(a)), among(n, *targets))
    caught, misses = rational.missing(a, targets)
    p = rational.chain(a)
    walking = [i for i in range(n) if i not in targets | caught]
    rhs = [[Fraction(1), sum((p[i][t] for t in targets), Fraction(0))] for i in walking]
    exact = rational.killed(p, walking, rhs)
    for i in range(n):
        assert (float(found.values[i]) == np.inf) == (i in misses)
        if i in exact and i not in misses:
            assert float(found.values[i]) == pytest.approx(float(exact[i][0]), rel=1e-11)
            assert found.probabilities[i] == 1
        elif i in exact:
            assert float(found.probabilities[i]) == pytest.approx(float(exact[i][1]), rel=1e-11, abs=1e-290)
        elif i in caught:
            assert found.probabilities[i] == 0
    assert found.certificate.converged


def test_a_set_of_its_own_for_every_head() -> None:
    weights = heads.stacked()[:2]
    targets = torch.stack([among(heads.N, 3), among(heads.N, 5, 6)])
    found = hitting_times(Dense(weights), targets)
    for i in range(2):
        alone = hitting_times(Dense(weights[i]), targets[i])
        assert torch.allclose(found.values[i], alone.values, rtol=1e-12)


@pytest.mark.parametrize(
    "targets", [torch.ones(3), torch.ones(4, dtype=torch.bool), torch.ones(3, 1, dtype=torch.bool)]
)
def test_targets_that_make_no_sense(targets: torch.Tensor) -> None:
    with pytest.raises(ChainError, match=r"expected bool \(3,\)"):
        hitting_times(Dense(torch.eye(3)), targets)


def test_nobody_to_reach() -> None:
    with pytest.raises(ChainError, match="no tokens"):
        hitting_times(Dense(torch.eye(3)), torch.zeros(3, dtype=torch.bool))
