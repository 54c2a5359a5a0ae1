"""No answer is NaN, and no certificate is false, whatever the chain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenrank.markov import lambda2, stationary
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Operator, from_weights, reverse

from . import heads, oracles
from .strategies import KINDS, chains, jumps, make

alphas = st.one_of(
    st.sampled_from([0.0, 0.5, 0.85, 0.99, 0.999, 1 - 1e-6, 1 - 1e-9]),
    st.floats(0, 1, exclude_max=True, allow_subnormal=False).filter(lambda a: a < 1 - 1e-9),
)
tolerances = st.sampled_from([1e-2, 1e-6, 1e-8, 1e-12])
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16])


def build(a: np.ndarray, dtype: torch.dtype) -> tuple[Operator, np.ndarray]:
    """The operator of weights given in ``dtype``, and the exact chain that it stands for."""
    operator = from_weights(torch.from_numpy(a).to(dtype))
    return operator, operator.to_dense(torch.float64).numpy()


def check(operator: Operator, exact: np.ndarray, alpha: float, tol: float, jump: np.ndarray) -> None:
    answer = stationary(operator, alpha, torch.from_numpy(jump), tol, 400)
    values, certificate = answer.values.numpy(), answer.certificate
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert values.sum() == pytest.approx(1, abs=1e-12)
    assert certificate.error_bound is not None
    bound = float(certificate.error_bound)
    expected = oracles.linear_solve(exact, alpha, jump)
    slack = 4 * np.finfo(float).eps / (1 - alpha)  # of the elimination that it is compared with
    if (jump > 0).all():
        expected, slack = oracles.pagerank(exact, alpha, jump), 0.0
    error = np.abs(values - expected).sum()
    assert error <= bound + slack, f"error {error:.2e}, bound {bound:.2e}"
    assert bool(certificate.converged) == (bound <= tol)


@settings(max_examples=400)
@given(a=chains(), alpha=alphas, tol=tolerances, dtype=dtypes, data=st.data())
def test_the_bound_bounds(a: np.ndarray, alpha: float, tol: float, dtype: torch.dtype, data: st.DataObject) -> None:
    operator, exact = build(a, dtype)
    check(operator, exact, alpha, tol, data.draw(jumps(len(a))))


@settings(max_examples=100)
@given(a=chains(), alpha=alphas, tol=tolerances)
def test_the_bound_bounds_backward(a: np.ndarray, alpha: float, tol: float) -> None:
    if not (a.sum(0) > 1e-30).all():
        a = (a + 1e-3) / (a + 1e-3).sum(1, keepdims=True)  # everybody is attended to
    operator, exact = build(a, torch.float64)
    check(reverse(operator), oracles.reverse(exact), alpha, tol, np.full(len(a), 1 / len(a)))


@settings(max_examples=100)
@given(a=chains(), alpha=alphas, tol=tolerances, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_the_bound_bounds_matrix_free(a: np.ndarray, alpha: float, tol: float, dtype: torch.dtype) -> None:
    operator = heads.as_query_key(torch.from_numpy(a).to(dtype))
    exact = operator.to_dense(torch.float64).numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "DENSE_BYTES", 0)
        check(operator, exact, alpha, tol, np.full(len(a), 1 / len(a)))


@settings(max_examples=200)
@given(a=chains(), tol=tolerances, dtype=dtypes, data=st.data())
def test_without_teleport_the_residual_is_true(
    a: np.ndarray, tol: float, dtype: torch.dtype, data: st.DataObject
) -> None:
    """Perhaps one of many stationary distributions, but one that is as stationary as it says."""
    operator, exact = build(a, dtype)
    answer = stationary(operator, 1.0, torch.from_numpy(data.draw(jumps(len(a)))), tol, 400)
    values, residual = answer.values.numpy(), float(answer.certificate.residual)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert values.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(values @ exact - values).sum() <= residual + 1e-14
    assert bool(answer.certificate.converged) == (residual <= tol)


@settings(max_examples=300)
@given(a=chains(), dtype=dtypes)
# the triangular matrices among them are as far from normal as can be
@example(a=make("peaky", 13, np.random.default_rng(3), 0.0), dtype=torch.float32)
def test_lambda2_is_a_modulus(a: np.ndarray, dtype: torch.dtype) -> None:
    operator, exact = build(a, dtype)
    answer = lambda2(operator)
    value = float(answer.values)
    assert np.isfinite(value)
    assert 0 <= value <= 1
    assert float(answer.certificate.residual) >= 0
    expected = oracles.second_modulus(exact)
    if not bool(answer.certificate.uncertain) and well_conditioned(exact):
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-5)


def well_conditioned(a: np.ndarray) -> bool:
    """Eigenvalues that float32 can tell: a rounding of the matrix moves them by condition · 1e-7."""
    vectors = np.linalg.eig(a)[1]
    return bool(np.linalg.cond(vectors) < 100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_larger_chains(kind: str, dtype: torch.dtype) -> None:
    """Past the size where all eigenvalues are computed, so that Krylov spaces meet these chains too."""
    rng = np.random.default_rng(5)
    for leak in (0.0, 1e-12, 1e-4):
        operator, exact = build(make(kind, 1 if kind == "one state" else 110, rng, leak), dtype)
        check(operator, exact, 0.99, 1e-8, np.full(len(exact), 1 / len(exact)))
        answer = lambda2(operator)
        assert 0 <= float(answer.values) <= 1
        if not bool(answer.certificate.uncertain) and well_conditioned(exact):
            assert float(answer.values) == pytest.approx(oracles.second_modulus(exact), rel=2e-3, abs=1e-3)


def test_the_dense_operator_is_what_it_says() -> None:
    """Without this the exact chain above would not be one."""
    a = make("half precision", 12, np.random.default_rng(0), 0.0)
    operator, exact = build(a, torch.float16)
    assert isinstance(operator, Dense)
    assert np.abs(exact.sum(1) - 1).max() < 1e-15
