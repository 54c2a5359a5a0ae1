"""Subspace iteration: the dominant eigenvalue of many heads at once, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank import AttentionChain
from tokenrank.markov import lambda2
from tokenrank.markov.eigen.located import ERROR
from tokenrank.markov.engine import constants
from tokenrank.markov.engine.subspace import dominant
from tokenrank.operators import Dense, from_query_key


def moduli(a: Tensor) -> Tensor:
    """|λ2| of chains (h, N, N) by LAPACK in float64."""
    return torch.from_numpy(np.sort(np.abs(np.linalg.eigvals(a.double().numpy())), -1)[..., -2].copy())


def heads(n: int, seed: int = 0) -> Tensor:
    """Softmax of low-rank logits from flat to sharp, as attention is, (8, n, n) in float64."""
    g = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 8, n, 12, generator=g, dtype=torch.float64)
    sharp = torch.linspace(0.2, 2.5, 8, dtype=torch.float64)[:, None, None]
    return (sharp * (q @ k.mT) / 12**0.5).softmax(-1)


def slow(n: int, leak: float) -> Tensor:
    """Two halves that hardly attend to one another, (n, n)."""
    g = torch.Generator().manual_seed(1)
    a = torch.rand(n, n, generator=g, dtype=torch.float64)
    half = torch.arange(n) < n // 2
    a = torch.where(half[:, None] == half, a, leak * a)
    return a / a.sum(-1, keepdim=True)


def found(matrices: Tensor, powers: bool = True) -> tuple[object, Tensor]:
    start = torch.randn(matrices.shape[-1], 16, generator=torch.Generator().manual_seed(0), dtype=matrices.dtype)
    answer = dominant(
        lambda some: matrices[some].__matmul__,
        (lambda some: matrices[some].mT) if powers else None,
        start.expand(len(matrices), -1, -1),
        lambda modulus, residual, condition: residual * condition <= 1e-4 * modulus,
    )
    return answer, matrices


@pytest.mark.parametrize("n", [60, 200])
def test_against_lapack(n: int) -> None:
    """Of any real matrix: value, residual, vector, and a condition number that is that of LAPACK's left vectors."""
    g = torch.Generator().manual_seed(n)
    matrices = []
    for spread in (0.0, 1.0, 3.0):  # of the basis: from orthogonal to far from it
        basis = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
        basis = basis @ torch.diag(torch.logspace(0, spread, n, dtype=torch.float64)) @ basis.roll(1, 0)
        values = 0.9 ** torch.arange(1, n + 1, dtype=torch.float64)
        matrices.append(torch.from_numpy(np.linalg.solve(basis.numpy().T, (basis * values).numpy().T).T))
    answer, stacked = found(torch.stack(matrices))
    assert answer.left.numel() == 0
    for head in range(3):
        at = int((answer.heads == head).nonzero())
        values, left = np.linalg.eig(stacked[head].numpy().T)
        lead = np.abs(values).argmax()
        assert abs(float(answer.value[at]) - abs(values[lead])) < 1e-3
        y = torch.view_as_complex(answer.vector[at].contiguous()).numpy()
        assert abs(np.linalg.norm(y) - 1) < 1e-6
        left_part = np.linalg.norm(stacked[head].numpy() @ y - values[lead] * y)
        assert abs(left_part - float(answer.residual[at])) < 1e-3
        condition = np.linalg.norm(left[:, lead]) / abs(left[:, lead] @ y)
        # the mean over 16 random vectors, or the condition of the projection if that is more
        assert 0.4 * condition <= float(answer.condition[at]) <= 3 * max(condition, 1)


@pytest.mark.parametrize("n", [130, 176, 400])
def test_ordinary_heads_need_no_krylov_space(n: int) -> None:
    a = torch.cat([heads(n), slow(n, 1e-3)[None]])
    answer = lambda2(Dense(a))
    assert answer.certificate.method == "subspace"
    assert not bool(answer.certificate.uncertain.any())
    assert float((answer.values - moduli(a)).abs().max()) <= ERROR


def test_slow_modes_that_are_close_are_told_by_squares() -> None:
    """λ2 … λ20 from 0.990 to 0.99: hundreds of plain products, a few with a power of M."""
    n, groups = 240, 24
    member = torch.arange(n) % groups
    g = torch.Generator().manual_seed(2)
    a = torch.rand(n, n, generator=g, dtype=torch.float64)
    a = torch.where(member[:, None] == member, a, (1e-4 + 1e-3 * (member % 5)[:, None]) * a)
    a = (a / a.sum(-1, keepdim=True))[None]
    settled = lambda2(Dense(a))
    assert not bool(settled.certificate.uncertain.any())
    assert float((settled.values - moduli(a)).abs().max()) <= ERROR


def test_residual_is_that_of_float64() -> None:
    a = heads(176)
    answer = lambda2(Dense(a.float()))
    assert answer.certificate.error_bound is None
    assert bool((answer.certificate.residual <= 2e-4 * answer.values.double().clamp(min=0.1)).all())
    assert bool((answer.certificate.residual > 0).all())


@pytest.mark.parametrize("n", [131, 150])
def test_rings_are_not_called_certain_wrongly(n: int) -> None:
    """Previous-token heads: eigenvalues of almost one modulus, of which no subspace of 16 vectors holds one."""
    shift = torch.eye(n, dtype=torch.float64).roll(1, 1)
    for share in (0.05, 0.5):
        a = ((1 - share) * shift + share / n)[None]
        answer = lambda2(Dense(a))
        off = (answer.values - (1 - share)).abs()
        assert bool((off <= ERROR).all()) or bool(answer.certificate.uncertain.all())


def test_nothing_left_after_one_bounce() -> None:
    a = torch.full((2, 150, 150), 1 / 150, dtype=torch.float64)
    a[1, :, 0] += 0.5
    a[1] /= a[1].sum(-1, keepdim=True)
    assert float(lambda2(Dense(a)).values.max()) < 1e-6


# ---- proved or not


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 128), st.integers(0, 2**31), st.floats(0.1, 8))
def test_without_a_proof_it_is_the_same(n: int, seed: int, sharp: float) -> None:
    q, k = torch.randn(2, 2, n, 6, generator=torch.Generator().manual_seed(seed)).mul(sharp**0.5)
    chain = from_query_key(q, k, None, None, False)
    exact, quick = lambda2(chain), lambda2(chain, proved=False)
    sure = ~(exact.certificate.uncertain | quick.certificate.uncertain)
    assert bool(((exact.values - quick.values).abs() <= 2 * ERROR)[sure].all())


def test_what_is_proved_and_what_is_not() -> None:
    a = heads(100)
    chain = AttentionChain(a)
    exact, quick = chain.lambda2(), chain.lambda2(proved=False)
    assert exact.certificate.method == "eigenvalues"
    assert exact.certificate.error_bound is not None
    assert float(exact.certificate.error_bound.max()) < 1e-4
    assert quick.certificate.method == "subspace"
    assert quick.certificate.error_bound is None
    assert float((quick.values - moduli(a)).abs().max()) <= ERROR
    few = AttentionChain(heads(constants.SUBSPACE_FEWEST - 1)).lambda2(proved=False)
    assert few.certificate.error_bound is not None


def test_classes_come_first_without_a_proof_too() -> None:
    """Two recurrent classes mean |λ2| = 1, exactly, whatever is asked for."""
    a = torch.zeros(1, 100, 100, dtype=torch.float64)
    a[0, :50, :50], a[0, 50:, 50:] = 1 / 50, 1 / 50
    quick = lambda2(Dense(a), proved=False)
    assert float(quick.values) == 1
    assert not bool(quick.certificate.uncertain.any())
    assert quick.certificate.error_bound is not None
    assert float(quick.certificate.error_bound) == 0
