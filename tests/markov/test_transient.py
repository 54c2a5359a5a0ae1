"""Killed chains by all three ways, against dense solves, and what the certificates prove."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tokenrank.markov.engine import constants
from tokenrank.markov.engine.transient import Solved, solve_transient
from tokenrank.operators import Dense, Operator, QueryKey, from_query_key, from_weights, reverse

from . import heads, rational
from .conftest import WAYS, take
from .strategies import chains

TOL, PLENTY = 1e-8, 5000


def exact(a: Tensor, alive: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """x and the times to get out by pivoted elimination, for (h, N, N), (N,) and (N, c)."""
    q = a.double() * alive[:, None] * alive
    rhs = torch.cat([b.double(), torch.ones(len(b), 1, dtype=torch.float64)], -1) * alive[:, None]
    x = torch.linalg.solve(torch.eye(a.shape[-1], dtype=torch.float64) - q, rhs.expand(len(a), -1, -1))
    return x[..., :-1], x[..., -1]


def certified(found: Solved, a: Tensor, alive: Tensor, b: Tensor, tol: float = TOL) -> None:
    x, t = exact(a, alive, b)
    for values, expected, certificate in (
        (found.values, x, found.certificate),
        (found.times[..., None], t[..., None], found.times_certificate),
    ):
        error, size = (values - expected).abs().amax((-2, -1)), expected.abs().amax((-2, -1)).clamp(min=1)
        assert certificate.error_bound is not None
        assert certificate.converged.all(), certificate
        # the oracle's own rounding is beside the bound
        assert (error <= certificate.error_bound + 1e-11 * size).all(), (error, certificate)
        assert (certificate.error_bound <= tol * size).all(), certificate
        assert values.dtype == torch.float64


ALIVE = torch.arange(heads.N) % 20 != 3
B = torch.from_numpy(np.random.default_rng(0).random((heads.N, 3)))


def test_nine_heads(way: str) -> None:
    weights = heads.stacked()
    found = solve_transient(Dense(weights), ALIVE, B, TOL, PLENTY)
    certified(found, weights, ALIVE, B)
    assert found.certificate.method == way
    assert (found.values[:, ~ALIVE] == 0).all()
    assert (found.times[:, ~ALIVE] == 0).all()


def test_nine_heads_matrix_free(way: str, matrix_free: None) -> None:
    """Logits of 256 terms, up to 708: an entry may be off by 3e-9, which is part of the bound."""
    operator = heads.as_query_key(heads.stacked())
    certified(solve_transient(operator, ALIVE, B, 1e-5, PLENTY), operator.to_dense(), ALIVE, B, 1e-5)


def test_single_precision_is_no_limit(way: str, matrix_free: None) -> None:
    """Iterated in single precision, refined in double."""
    operator = heads.as_query_key(heads.stacked(torch.float32))
    found = solve_transient(operator, ALIVE, B, 1e-10, PLENTY)
    x, t = exact(operator.to_dense(torch.float64), ALIVE, B)
    assert ((found.values - x).abs().amax((-2, -1)) <= 1e-10 * x.abs().amax((-2, -1))).all()
    assert ((found.times - t).abs().amax(-1) <= 1e-10 * t.amax(-1)).all()
    certified(solve_transient(operator, ALIVE, B, 1e-6, PLENTY), operator.to_dense(torch.float64), ALIVE, B, 1e-6)


def test_more_columns_than_share_a_space(way: str) -> None:
    weights = heads.stacked()[:2]
    b = torch.rand(heads.N, 40, dtype=torch.float64)
    certified(solve_transient(Dense(weights), ALIVE, b, TOL, PLENTY), weights, ALIVE, b)


def test_columns_of_zeros_signs_and_none(way: str) -> None:
    weights = heads.stacked()[:2]
    b = torch.randn(heads.N, 3, dtype=torch.float64)
    b[:, 1] = 0
    found = solve_transient(Dense(weights), ALIVE, b, TOL, PLENTY)
    certified(found, weights, ALIVE, b)
    assert (found.values[..., 1] == 0).all()
    none = solve_transient(Dense(weights), ALIVE, b[:, :0], TOL, PLENTY)
    assert none.values.shape == (2, heads.N, 0)
    assert none.certificate.converged.all()
    assert torch.allclose(none.times, found.times, rtol=1e-8)


def test_leading_dimensions(way: str) -> None:
    weights = heads.stacked()[:6].reshape(2, 3, heads.N, heads.N)
    alive = torch.rand(2, 3, heads.N) < 0.9
    b = torch.rand(2, 3, heads.N, 2, dtype=torch.float64)
    found = solve_transient(Dense(weights), alive, b, TOL, PLENTY)
    assert found.values.shape == b.shape
    assert found.certificate.converged.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        alone = solve_transient(Dense(weights[i, j]), alive[i, j], b[i, j], TOL, PLENTY)
        assert alone.certificate.converged.shape == ()
        assert torch.allclose(found.values[i, j], alone.values, atol=1e-8)


def test_nobody_walks(way: str) -> None:
    found = solve_transient(Dense(heads.stacked()[:2]), torch.zeros(heads.N, dtype=torch.bool), B, TOL, PLENTY)
    assert (found.values == 0).all()
    assert found.certificate.converged.all()
    assert found.certificate.error_bound is not None
    assert (found.certificate.error_bound == 0).all()


@pytest.mark.parametrize("n", [1, 7, 300])
@pytest.mark.parametrize("direction", ["lower", "upper"])
def test_triangular(n: int, direction: str) -> None:
    q, k = torch.randn(2, 2, 3, n, 8, dtype=torch.float64)
    operator: Operator = from_query_key(q, k, None, None, True)
    operator = reverse(operator) if direction == "upper" else operator
    alive = torch.arange(n) != (0 if direction == "lower" else n - 1)
    b = torch.rand(n, 2, dtype=torch.float64)
    found = solve_transient(operator, alive, b, TOL, PLENTY)
    assert found.certificate.method == "substitution"
    expected, times = exact(operator.to_dense().reshape(6, n, n), alive, b)
    assert torch.allclose(found.values.reshape(expected.shape), expected, rtol=1e-10)
    assert torch.allclose(found.times.reshape(times.shape), times, rtol=1e-10)


def test_triangular_without_a_way_out_that_numbers_know_of() -> None:
    """Token 1 of the first head attends to itself alone as far as float64 can tell; token 3 does not attend to it."""
    a = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.25, 0.25, 0], [0.5, 0, 0, 0.5]]).double()
    two = Dense(torch.stack([a, torch.ones(4, 4).double().tril() / torch.arange(1, 5)[:, None]]), "lower")
    b = torch.stack([torch.ones(4), torch.tensor([0.0, 0, 0.5, 0.5])], -1)
    found = solve_transient(two, torch.tensor([False, True, True, True]), b, TOL, PLENTY)
    assert found.values[0].tolist() == [[0, 0], [torch.inf, 0], [torch.inf, 2 / 3], [2, 1]]
    assert torch.isfinite(found.values[1]).all()
    assert found.certificate.converged.tolist() == [False, True]


def test_stubborn_heads_are_factored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "SOLVE_DIRECT", 0)
    monkeypatch.setattr(constants, "SOLVE_PATIENCE", 24)
    weights = heads.stacked()
    found = solve_transient(Dense(weights), ALIVE, B, TOL, PLENTY)
    certified(found, weights, ALIVE, B)
    assert found.certificate.method == "lu"
    assert found.certificate.applies > 1


@pytest.mark.parametrize("budget", [2, 10, 30])
def test_what_did_not_converge_says_so(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "SOLVE_DIRECT", 0)
    monkeypatch.setattr(constants, "SOLVE_STUBBORN", 0)
    weights = heads.stacked()
    alive = torch.arange(heads.N) > 0
    found = solve_transient(Dense(weights), alive, B, TOL, budget)
    assert not found.certificate.converged.all()
    x, _ = exact(weights, alive, B)
    error = (found.values - x).abs().amax((-2, -1))
    assert found.certificate.error_bound is not None
    assert (error <= found.certificate.error_bound).all()
    assert not torch.isnan(found.values).any()


def test_refinement_gains_more_than_one_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of 10⁵ bounces: the residual has to be 10⁵ times smaller than the error wanted."""
    monkeypatch.setattr(constants, "SOLVE_DIRECT", 0)
    monkeypatch.setattr(constants, "SOLVE_STUBBORN", 0)
    a = torch.rand(1, 50, 50, dtype=torch.float64)
    a[..., 0] *= 1e-4
    a = a / a.sum(-1, keepdim=True)
    alive, b = torch.arange(50) > 0, torch.rand(50, 1, dtype=torch.float64) * 1e-4
    certified(solve_transient(Dense(a), alive, b, TOL, PLENTY), a, alive, b)


@settings(max_examples=60)
@given(chains(largest=8))
def test_bound_against_rational_numbers(a: np.ndarray) -> None:
    """Whatever the way: within the bound, wherever there is one."""
    n = len(a)
    caught, misses = rational.missing(a, {0})
    alive = [i for i in range(1, n) if i not in caught]
    b = np.stack([a[:, 0], np.random.default_rng(n).random(n)], 1)
    walking = torch.zeros(n, dtype=torch.bool)
    walking[alive] = True
    rhs = [[rational.Fraction(float(v)) for v in b[i]] + [rational.Fraction(1)] for i in alive]
    expected = rational.killed(rational.chain(a), alive, rhs)
    for way in WAYS:
        with pytest.MonkeyPatch.context() as patch:
            take(way, patch)
            found = solve_transient(from_weights(torch.from_numpy(a)), walking, torch.from_numpy(b), TOL, 200)
        assert not torch.isnan(found.values).any()
        for column, (values, certificate) in enumerate(
            [(found.values[:, 0], found.certificate), (found.values[:, 1], found.certificate),
             (found.times, found.times_certificate)]
        ):  # fmt: skip
            bound = float(certificate.error_bound)
            exact_values = {i: row[column] for i, row in expected.items()}
            if np.isfinite(bound):
                error = max((abs(rational.Fraction(float(values[i])) - v) for i, v in exact_values.items()), default=0)
                assert error <= rational.Fraction(bound) * (1 + rational.Fraction(1, 10**9)), (way, column)
            if way != "gmres" and bool(certificate.converged):
                near = 1e-11 if way == "elimination" else TOL
                for i, v in exact_values.items():
                    assert abs(float(values[i]) - float(v)) <= near * float(v) + 1e-290, (way, column, i)
    assert misses >= caught


def test_queries_and_keys_of_any_structure() -> None:
    mask = torch.rand(40, 40) < 0.3
    mask |= torch.eye(40, dtype=torch.bool).roll(1, 1)
    operator = from_query_key(*torch.randn(2, 2, 40, 8, dtype=torch.float64), None, mask, False)
    assert isinstance(operator, QueryKey)
    alive = torch.arange(40) != 17
    b = torch.rand(40, 2, dtype=torch.float64)
    certified(solve_transient(operator, alive, b, TOL, PLENTY), operator.to_dense(), alive, b)
