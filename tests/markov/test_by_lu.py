"""Entries of transient solutions by LU, each with its bound, against rational numbers and sixty digits."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.markov import absorption, hitting_times, mean_first_passage
from tokenrank.markov.engine import constants
from tokenrank.markov.engine.by_lu import solve_by_lu
from tokenrank.markov.engine.sums import block_width, in_blocks, row_sums
from tokenrank.operators import Dense, from_query_key, from_weights

from . import rational
from .conftest import WAYS, take
from .strategies import chains


def exact_answers(a: np.ndarray, alive: list[int], b: np.ndarray) -> dict[int, list[Fraction]]:
    rhs = [[Fraction(float(v)) for v in b[i]] for i in alive]
    return rational.killed(rational.chain(a), alive, rhs)


@settings(max_examples=150)
@given(chains(largest=9), st.integers(0, 2**20))
def test_every_entry_is_within_its_bound(a: np.ndarray, seed: int) -> None:
    """Whatever the chain, small entries and signs included; the bound may be infinite and never wrong."""
    a = from_weights(torch.from_numpy(a)).weights.numpy()
    n, rng = len(a), np.random.default_rng(seed)
    caught, _ = rational.missing(a, {0})
    alive = [i for i in range(1, n) if i not in caught]
    b = np.stack([np.ones(n), a[:, 0], rng.standard_normal(n), 1e-200 * rng.random(n)], 1)
    walking = torch.zeros(n, dtype=torch.bool)
    walking[alive] = True
    found = solve_by_lu(torch.from_numpy(a)[None], walking[None], (torch.from_numpy(b) * walking[:, None])[None])
    for i, row in exact_answers(a, alive, b).items():
        for column, value in enumerate(row):
            bound = float(found.error[0, i, column])
            if np.isfinite(bound):
                # products below the smallest normal number round absolutely
                room = Fraction(bound) + Fraction(1, 10**290)
                assert abs(Fraction(float(found.x[0, i, column])) - value) <= room, (i, column)


def slow(n: int, out: float, seed: int = 0) -> np.ndarray:
    """Token 0 is entered with probability ``out`` from each other token."""
    a = np.random.default_rng(seed).dirichlet(np.ones(n), n)
    a[:, 0] = 0
    return (1 - out) * a / a.sum(1, keepdims=True) + out * np.eye(n)[0]


@pytest.mark.parametrize("out", [0.1, 1e-4, 1e-8])
def test_bounds_are_near_the_errors(out: float) -> None:
    """Not only true but worth something: some hundred roundings a step."""
    a = slow(60, out)
    a /= a.sum(1, keepdims=True)
    alive = torch.arange(60) > 0
    b = torch.stack([torch.ones(60).double(), torch.from_numpy(a[:, 0])], 1) * alive[:, None]
    found = solve_by_lu(torch.from_numpy(a)[None], alive[None], b[None])
    assert (found.error[0, 1:] <= 500 * 2.3e-16 / out * found.x[0, 1:]).all()
    assert (found.error[0, 1:] > 0).all()


@pytest.mark.parametrize(("out", "method"), [(1e-3, "lu"), (1e-13, "elimination"), (1e-200, "elimination")])
def test_elimination_where_lu_proves_too_little(out: float, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are accurate however nearly reducible the chain is."""
    take("lu", monkeypatch)
    a = slow(12, out)
    found = absorption(from_weights(torch.from_numpy(a)), torch.eye(12, dtype=torch.bool)[:, :1])
    assert found.certificate.method == method
    assert found.certificate.converged
    exact = exact_answers(a, list(range(1, 12)), np.ones((12, 1)))
    for i, (steps,) in exact.items():
        assert float(found.steps[i]) == pytest.approx(float(steps), rel=1e-8 if method == "lu" else 1e-12)


def test_heads_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One nearly reducible head among others takes its own way, and spoils nothing."""
    take("lu", monkeypatch)
    a = torch.from_numpy(np.stack([slow(20, out, seed) for seed, out in enumerate([0.2, 1e-14, 1e-3])]))
    targets = torch.eye(20, dtype=torch.bool)[:, :1]
    found = absorption(from_weights(a), targets)
    for head in range(3):
        alone = absorption(from_weights(a[head]), targets)
        assert torch.equal(found.values[head], alone.values)
        assert torch.equal(found.steps[head], alone.steps)


# ---- queries and keys: a bound of the chain that was asked for


def exact_softmax(q: Tensor, k: Tensor, scale: float) -> list[list[mpmath.mpf]]:
    rows = []
    for i in range(len(q)):
        logits = [
            mpmath.mpf(scale)
            * mpmath.fsum(mpmath.mpf(float(x)) * mpmath.mpf(float(y)) for x, y in zip(q[i], r, strict=True))
            for r in k
        ]
        top = max(logits)
        weights = [mpmath.exp(v - top) for v in logits]
        total = mpmath.fsum(weights)
        rows.append([w / total for w in weights])
    return rows


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 30.0, 1e3, 1e4])
def test_bounds_hold_what_rounding_does_to_a_softmax(
    way: str, dtype: torch.dtype, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits up to 10⁴, against a softmax of eighty digits; without that error bounds near the floor were too small."""
    take(way, monkeypatch)
    n, d = 6, 5
    generator = torch.Generator().manual_seed(int(size))
    q, k = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    # rows whose logits nearly tie, so that the walk moves whatever the size
    k = k[:1] + (k - k[:1]) / size
    scale = 1.0
    q, k = (size * q).to(dtype), k.to(dtype)
    operator = from_query_key(q, k, scale, None, False)
    targets = torch.eye(n, dtype=torch.bool)[:, :2]
    found = absorption(operator, targets)
    times = hitting_times(operator, targets[:, 0])
    passage = mean_first_passage(operator)
    assert found.certificate.about == "queries and keys"
    with mpmath.workdps(80):
        a = exact_softmax(q, k, scale)
        walking = range(2, n)
        system = mpmath.matrix([[(i == j) - a[i][j] for j in walking] for i in walking])
        for t in range(2):
            x = mpmath.lu_solve(system, mpmath.matrix([a[i][t] for i in walking]))
            error = max(abs(x[r] - mpmath.mpf(float(found.values[i, t]))) for r, i in enumerate(walking))
            assert error <= float(found.certificate.error_bound)
        for target, values, bound in [
            (0, times.values, times.certificate.error_bound),
            *[(t, passage.values[:, t], passage.certificate.error_bound[t]) for t in range(n)],
        ]:
            others = [i for i in range(n) if i != target]
            system = mpmath.matrix([[(i == j) - a[i][j] for j in others] for i in others])
            t = mpmath.lu_solve(system, mpmath.ones(n - 1, 1))
            error = max(abs(t[r] - mpmath.mpf(float(values[i]))) for r, i in enumerate(others))
            assert error <= float(bound)


def test_a_softmax_of_large_logits_is_not_called_certain() -> None:
    """Rounding moves logits of 10⁹ by 10⁻⁷: nothing within 1e-8 can be claimed, whatever the residual."""
    q, k = torch.randn(2, 6, 5, dtype=torch.float64)
    found = absorption(from_query_key(3e4 * q, 3e4 * k, None, None, False), torch.eye(6, dtype=torch.bool)[:, :1])
    assert not found.certificate.converged
    assert found.certificate.uncertain


def test_stored_weights_are_what_is_stored() -> None:
    a = torch.rand(8, 8, dtype=torch.float64).softmax(-1)
    found = absorption(Dense(a), torch.eye(8, dtype=torch.bool)[:, :1])
    assert found.certificate.about == "stored weights"
    assert "proved of the stored weights" in str(found.certificate)


# ---- sums in blocks


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 257, 1000])
def test_sums_in_blocks_are_sums(n: int) -> None:
    a, x = torch.randn(5, n, dtype=torch.float64), torch.randn(n, 3, dtype=torch.float64)
    assert torch.allclose(in_blocks(a, x), a @ x, rtol=1e-12, atol=1e-12)
    assert torch.allclose(row_sums(a)[:, 0], a.sum(-1), rtol=1e-12, atol=1e-12)
    assert block_width(n) % 8 == 0


def test_one_head_at_a_time_makes_two_matrices_beside_it() -> None:
    """I − Q and its factors; with proofs, products and copies never more than three at once."""
    n, heads = 512, 6
    a = torch.rand(heads, n, n, dtype=torch.float64)
    operator = Dense(a.div_(a.sum(-1, keepdim=True)))
    targets = torch.eye(n, dtype=torch.bool)[:, :3]
    assert n > constants.SOLVE_SMALL
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        absorption(operator, targets)
    held = peak = 0
    for event in sorted(profile.events(), key=lambda e: e.time_range.end):
        held += event.self_cpu_memory_usage
        peak = max(peak, held)
    assert 2 * 8 * n * n <= peak < 4 * 8 * n * n
