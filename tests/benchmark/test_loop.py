"""The paper's loop is stopped where it is as right as it has to be, and not before."""

from __future__ import annotations

import time

import pytest
import torch

from tokenrank.benchmark.clock import Clock, Timing
from tokenrank.benchmark.heads import synthetic_heads
from tokenrank.benchmark.loop import dense, error_of, exact, fastest, google, power_steps, steps_taken, until

ALPHA, WIDTH = 0.99, 16
SCALE = WIDTH**-0.5


@pytest.fixture(scope="module")
def heads() -> tuple[torch.Tensor, torch.Tensor]:
    return synthetic_heads(120, 3, WIDTH)


def test_the_exact_answer_is_a_fixed_point(heads: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k = (x.double() for x in heads)
    right = exact(q, k, SCALE, ALPHA)
    g = google(dense(q, k, SCALE, torch.float64), ALPHA)
    assert error_of(power_steps(g, right, 1), right) < 1e-13
    assert torch.allclose(right.sum(-1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_it_stops_at_the_first_look_below_the_tolerance(heads: tuple[torch.Tensor, torch.Tensor], tol: float) -> None:
    q, k = heads
    right = exact(q, k, SCALE, ALPHA)
    found = until(q, k, SCALE, ALPHA, tol, right, Clock(), pause=4)
    assert found.enough
    assert found.error <= tol
    assert error_of(steps_taken(found, q, k, SCALE, ALPHA), right) == pytest.approx(found.error, rel=0.05)
    g = google(dense(q, k, SCALE), ALPHA)
    before = power_steps(g, torch.full((3, 120), 1 / 120), found.steps - 4)
    assert error_of(before, right) > tol


def test_what_float32_cannot_reach_is_reached_in_float64(heads: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k = heads
    right = exact(q, k, SCALE, ALPHA)
    assert not until(q, k, SCALE, ALPHA, 1e-10, right, Clock()).enough
    found = fastest(q, k, SCALE, ALPHA, 1e-10, right, Clock())
    assert found.enough
    assert found.dtype == "float64"


def test_it_ends_at_the_end_of_the_clock(heads: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k = heads
    found = fastest(q, k, SCALE, ALPHA, 1e-10, exact(q, k, SCALE, ALPHA), Clock(end=time.perf_counter()))
    assert not found.enough
    assert found.steps == 0


def test_heads_are_the_same_everywhere() -> None:
    q, k = synthetic_heads(256)
    assert q.shape == k.shape == (12, 256, 64)
    # what benchmarks/results were measured with
    assert float(q.double().abs().sum()) == pytest.approx(368124.99, abs=0.1)


def test_a_ratio_is_the_median_over_rounds_and_not_that_of_medians() -> None:
    slow = Timing((2.0, 20.0, 6.0))  # the machine was slow in the second round
    assert slow.over(Timing((1.0, 10.0, 2.0))) == 2.0
    assert slow.seconds == 6.0


def test_rounds_end_with_the_clock_and_the_first_counts_where_there_is_no_other() -> None:
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    found = Clock(end=time.perf_counter()).in_turn(runs, 5)
    assert calls == ["a", "b"]
    assert found["a"].runs == 1
    calls.clear()
    assert Clock().in_turn(runs, 3)["b"].runs == 3
    assert calls == ["a", "b"] * 4
