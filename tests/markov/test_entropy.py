"""The entropy rate: published numbers and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tokenrank.errors import ChainError
from tokenrank.markov import closed_classes, entropy_rate
from tokenrank.operators import Dense, Product, Teleport, from_query_key, from_weights

from . import heads, oracles
from .strategies import chains


def expected(a: np.ndarray) -> float:
    logs = np.log(np.where(a > 0, a, 1))
    return float(-(oracles.gth(a)[:, None] * a * logs).sum())


def test_three_states_of_pydtmc() -> None:
    a = torch.tensor([[0, 0.3, 0.7], [0.1, 0.5, 0.4], [0.1, 0.2, 0.7]], dtype=torch.float64)
    found = entropy_rate(from_weights(a))
    assert found.values.item() == pytest.approx(0.82673422, abs=5e-9)
    assert found.stationary.tolist() == pytest.approx([0.0909, 0.2987, 0.6104], abs=5e-5)


def test_from_none_to_all() -> None:
    assert entropy_rate(Dense(torch.full((8, 8), 1 / 8))).values.item() == pytest.approx(math.log(8), rel=1e-14)
    ring = entropy_rate(Dense(torch.eye(8).roll(1, 1)))  # periodic: π is there all the same
    assert ring.values.item() == 0
    assert ring.certificate.converged
    assert entropy_rate(Dense(torch.ones(1, 1))).values.item() == 0


def test_nine_heads() -> None:
    found = entropy_rate(Dense(heads.stacked()))
    assert found.values.tolist() == pytest.approx([expected(a) for a in heads.nine_heads().values()], rel=1e-12)
    assert (found.certificate.residual <= 1e-10).all()
    assert found.certificate.error_bound is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrix_free(dtype: torch.dtype, matrix_free: None) -> None:
    operator = from_query_key(*torch.randn(2, 2, 3, 40, 8, dtype=dtype), None, None, False)
    found = entropy_rate(operator)
    exact = [expected(a) for a in operator.to_dense(torch.float64).reshape(6, 40, 40).numpy()]
    assert found.values.dtype == torch.float64
    assert found.values.reshape(-1).tolist() == pytest.approx(exact, rel=1e-6 if dtype == torch.float32 else 1e-11)


def test_causal_walks_end_and_tell_nothing_more() -> None:
    operator = from_query_key(*torch.randn(2, 3, 20, 8), None, None, True)
    assert entropy_rate(operator).values.tolist() == pytest.approx([0, 0, 0], abs=1e-13)
    jump = torch.full((3, 20), 1 / 20, dtype=torch.float64)
    dense = Teleport(operator, 0.9, jump)
    exact = [expected(a) for a in dense.to_dense(torch.float64).numpy()]
    assert entropy_rate(dense).values.tolist() == pytest.approx(exact, rel=1e-11)


def test_transient_rows_do_not_count() -> None:
    a = torch.tensor([[0.5, 0.25, 0.25], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    assert entropy_rate(from_weights(a)).values.item() == 0


def test_layers() -> None:
    a = torch.rand(2, 9, 9, dtype=torch.float64).softmax(-1)
    found = entropy_rate(Product([Dense(a[0]), Dense(a[1])]))
    assert found.values.item() == pytest.approx(expected((a[0] @ a[1]).numpy()), rel=1e-12)


@settings(max_examples=100)
@given(chains(largest=12))
def test_between_nothing_and_log_n(a: np.ndarray) -> None:
    operator = from_weights(torch.from_numpy(a))
    if int(closed_classes(operator)) > 1:
        with pytest.raises(ChainError, match="the entropy rate depends on where"):
            entropy_rate(operator)
        return
    found = entropy_rate(operator)
    assert 0 <= float(found.values) <= math.log(len(a)) + 1e-12


def test_effort_that_makes_no_sense() -> None:
    with pytest.raises(ChainError, match="tol = 0"):
        entropy_rate(Dense(torch.ones(1, 1)), tol=0)
