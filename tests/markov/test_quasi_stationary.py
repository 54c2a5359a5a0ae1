"""Quasi-stationary distributions against dense eigenvectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.operators import oracles as dense_oracles
from tokenrank.errors import ChainError
from tokenrank.markov.engine import constants
from tokenrank.markov.quasi_stationary import QuasiStationary, quasi_stationary
from tokenrank.operators import Dense, Operator, from_query_key, reverse

from . import heads, oracles, strategies


def killed(a: np.ndarray, drop: np.ndarray, alpha: float) -> np.ndarray:
    """Q on all tokens, zero on the dropped ones."""
    q = alpha * np.asarray(a, dtype=np.float64) + (1 - alpha) / len(a)
    q[drop], q[:, drop] = 0, 0
    return q


def dense_vector(q: np.ndarray) -> tuple[float, np.ndarray]:
    """Perron root and left vector of irreducible Q from all eigenvectors."""
    values, vectors = np.linalg.eig(q.T)
    place = values.real.argmax()
    v = np.abs(vectors[:, place].real)
    return float(values[place].real), v / v.sum()


def check(answer: QuasiStationary, q: np.ndarray, drop: np.ndarray, tol: float = 1e-12) -> None:
    """What holds of every answer, whatever the chain."""
    v = answer.values.numpy()
    theta = float(answer.survival)
    assert v.dtype == np.float64
    assert np.isfinite(v).all()
    assert (v >= 0).all()
    assert v.sum() == pytest.approx(1, abs=1e-12)
    assert (v[drop] == 0).all()
    residual = np.abs(v @ q - theta * v).sum()
    assert float(answer.certificate.residual) == pytest.approx(residual, abs=1e-14)
    assert residual <= tol
    assert bool(answer.certificate.converged)
    assert float(answer.lower) <= theta + 1e-15
    assert theta <= float(answer.upper) + 1e-15


# ---- the nine heads


@pytest.mark.parametrize("alpha", [0.99, 0.5, 0.0])
@pytest.mark.parametrize("route", ["dense", "float32", "queries and keys", "matrix-free"])
def test_nine_heads_without_token_0(alpha: float, route: str, request: pytest.FixtureRequest) -> None:
    drop = torch.zeros(heads.N, dtype=torch.bool)
    drop[0] = True
    weights = heads.stacked(torch.float32 if route == "float32" else torch.float64)
    operator: Operator = Dense(weights)
    if route in ("queries and keys", "matrix-free"):
        operator = heads.as_query_key(weights)
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    answer = quasi_stationary(operator, drop, alpha)
    assert answer.values.shape == (9, heads.N)
    assert answer.survival.shape == answer.lower.shape == answer.upper.shape == (9,)
    assert answer.certificate.residual.shape == (9,)
    assert answer.certificate.converged.all()
    for i, name in enumerate(heads.NAMES):
        root, v = dense_vector(killed(heads.nine_heads()[name], drop.numpy(), alpha))
        wide = 1e-6 if route == "float32" else 1e-9
        assert float(answer.survival[i]) == pytest.approx(root, abs=wide), name
        assert np.abs(answer.values[i].numpy() - v).sum() < (1e-3 if route == "float32" else 1e-6), name
        assert float(answer.lower[i]) - wide <= root <= float(answer.upper[i]) + wide, name


def test_the_sink_head_is_the_rest_of_the_chain() -> None:
    """0.6 to token 0, else noise: what survives a step is about 0.4 of the walk."""
    drop = torch.arange(heads.N) == 0
    a = torch.from_numpy(heads.nine_heads()["sink"])
    answer = quasi_stationary(Dense(a), drop)
    assert float(answer.survival) == pytest.approx(0.4, abs=0.01)
    assert float(answer.upper - answer.lower) < 1e-10
    assert float(answer.values.max()) < 0.02  # nothing in the noise sticks out


@pytest.mark.parametrize("alpha", [0.999999, 0.9])
def test_large_heads(alpha: float) -> None:
    """One head with two clusters and one with a ring."""
    n = 400
    label = torch.arange(n) % 2
    clusters = torch.where(label[:, None] == label, 0.0, -7.0) + torch.randn(n, n)
    a = torch.stack([torch.randn(n, n).mul(2).softmax(-1), clusters.softmax(-1), heads_ring(n)]).double()
    a = dense_oracles.rows_to_one(a)
    drop = torch.zeros(3, n, dtype=torch.bool)
    drop[0, :3] = drop[1, ::7] = drop[2, 5] = True
    answer = quasi_stationary(Dense(a), drop, alpha, tol=1e-10)
    assert answer.certificate.converged.all()
    for i in range(3):
        root, v = dense_vector(killed(a[i].numpy(), drop[i].numpy(), alpha))
        assert float(answer.survival[i]) == pytest.approx(root, abs=1e-9)
        assert np.abs(answer.values[i].numpy() - v).sum() < 1e-5


def heads_ring(n: int) -> Tensor:
    return 0.9 * torch.roll(torch.eye(n), 1, 1) + 0.1 * torch.randn(n, n).softmax(-1)


# ---- nothing dropped: TokenRank


@pytest.mark.parametrize("alpha", [0.99, 0.3, 0.0])
@pytest.mark.parametrize("structure", ["full", "lower", "upper"])
def test_dropping_nothing_is_tokenrank(alpha: float, structure: str) -> None:
    a = torch.randn(2, 20, 20, dtype=torch.float64)
    if structure == "lower":
        a = a.masked_fill(torch.ones(20, 20, dtype=torch.bool).triu(1), -torch.inf)
    if structure == "upper":
        a = a.masked_fill(torch.ones(20, 20, dtype=torch.bool).tril(-1), -torch.inf)
    a = a.softmax(-1)
    operator = Dense(a, structure)  # type: ignore[arg-type]
    answer = quasi_stationary(operator, torch.zeros(20, dtype=torch.bool), alpha)
    assert torch.allclose(answer.survival, torch.ones(2, dtype=torch.float64), atol=1e-14)
    for i in range(2):
        expected = oracles.pagerank(a[i].numpy(), alpha)
        assert np.abs(answer.values[i].numpy() - expected).sum() < 1e-12


# ---- causal chains


def causal(n: int, batch: tuple[int, ...] = (), scale: float = 2.0) -> tuple[Operator, Tensor]:
    q, k = scale * torch.randn(2, *batch, 1, n, 8, dtype=torch.float64)
    return from_query_key(q, k, None, None, True), dense_oracles.attention(q, k, is_causal=True)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("alpha", [0.999999, 0.99, 0.5, 0.0])
@pytest.mark.parametrize("n", [2, 30, 300])
def test_causal_with_teleport(n: int, alpha: float, backward: bool) -> None:
    operator, a = causal(n, (2,))
    if backward:
        operator, a = reverse(operator), dense_oracles.reverse(a)
    drop = torch.zeros(2, 1, n, dtype=torch.bool)
    drop[:, :, -1 if backward else 0] = True
    drop[1, 0, n // 3] = True if n > 2 else drop[1, 0, n // 3]
    answer = quasi_stationary(operator, drop, alpha)
    assert answer.certificate.method == "substitution"
    assert answer.values.shape == (2, 1, n)
    for i in range(2):
        q = killed(a[i, 0].numpy(), drop[i, 0].numpy(), alpha)
        one = answer[i, 0]
        check(one, q, drop[i, 0].numpy())
        assert float(one.upper - one.lower) < 1e-11  # the bounds say so as well
        # eigenvectors of triangular matrices are far from orthogonal: compare with inverse iteration
        v = np.linalg.solve((float(one.survival) + 1e-13) * np.eye(n) - q.T, (~drop[i, 0].numpy()).astype(float))
        assert np.abs(one.values.numpy() - v / v.sum()).sum() < 1e-6
        assert (one.values[~drop[i, 0]] >= (1 - alpha) / n * (1 - 1e-9)).all()


def test_a_causal_chain_matrix_free(matrix_free: None) -> None:
    operator, a = causal(600, scale=1.0)
    drop = torch.arange(600) == 0
    for alpha in (0.99, 0.999999):
        answer = quasi_stationary(operator, drop, alpha)
        v, q = answer.values[0].numpy(), killed(a[0].numpy(), drop.numpy(), alpha)
        assert np.abs(v @ q - float(answer.survival) * v).sum() < 1e-12


def test_a_single_token_left() -> None:
    a = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64)
    for alpha, expected in [(0.0, 0.5), (0.8, 0.8 * 0.5 + 0.1)]:
        answer = quasi_stationary(Dense(a), torch.tensor([True, False]), alpha)
        assert answer.values.tolist() == [0, 1]
        assert float(answer.survival) == pytest.approx(expected, abs=1e-15)


# ---- adversarial chains


@settings(max_examples=400)
@given(
    a=strategies.chains(),
    seed=st.integers(0, 2**20),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    alpha=st.sampled_from([1 - 1e-9, 0.99, 0.5, 0.0]),
    shape=st.sampled_from(["full", "lower", "upper"]),
)
def test_adversarial(a: np.ndarray, seed: int, share: float, alpha: float, shape: str) -> None:
    n = len(a)
    if shape != "full":  # one chain more for each: its triangle, the rest of every row on the diagonal
        a = np.tril(a) if shape == "lower" else np.triu(a)
        a = a + np.diag(np.maximum(1 - a.sum(1), 0))
        a = a / a.sum(1, keepdims=True)
    drop = np.random.default_rng(seed).random(n) < share
    drop[seed % n] = False
    answer = quasi_stationary(Dense(torch.from_numpy(a), shape), torch.from_numpy(drop), alpha)  # type: ignore[arg-type]
    q = killed(a, drop, alpha)
    check(answer, q, drop, 1e-10)
    exact = float(np.abs(np.linalg.eigvals(q)).max())
    # cut cycles are so far from normal that dense eigenvalues keep half their digits
    assert float(answer.survival) == pytest.approx(exact, abs=1e-6)
    assert float(answer.lower) <= exact + 1e-6
    assert exact <= float(answer.upper) + 1e-6
    assert (answer.values.numpy()[~drop] > 0).all()


def test_a_head_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    chains = np.stack([strategies.make(k, 12, rng, 1e-8) for k in strategies.KINDS if k not in ("one state",)])
    drop = torch.from_numpy(rng.random((len(chains), 12)) < 0.3)
    drop[:, 3] = False
    for alpha in (0.999, 0.9):
        together = quasi_stationary(Dense(torch.from_numpy(chains)), drop, alpha)
        monkeypatch.setattr(constants, "DENSE_BYTES", 3 * 12 * 12 * 8)
        grouped = quasi_stationary(Dense(torch.from_numpy(chains)), drop, alpha)
        monkeypatch.undo()
        assert torch.allclose(together.values, grouped.values, atol=1e-12)
        for i in range(len(chains)):
            alone = quasi_stationary(Dense(torch.from_numpy(chains[i])), drop[i], alpha)
            assert torch.allclose(alone.values, together.values[i], atol=1e-12)


# ---- what cannot be


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (torch.ones(4, dtype=torch.bool), r"all 4 tokens of chain \[0\] are dropped"),
        (torch.tensor([[False] * 4, [True] * 4]), r"all 4 tokens of chain \[1\] are dropped"),
        (torch.zeros(4), "expected bool"),
        (torch.zeros(3, dtype=torch.bool), r"shape \(3,\), expected \(4,\) or \(2, 4\)"),
    ],
)
def test_bad_drops(drop: Tensor, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        quasi_stationary(Dense(torch.full((2, 4, 4), 0.25)), drop)


@pytest.mark.parametrize("arguments", [{"alpha": 1.5}, {"alpha": 1.0}, {"alpha": float("nan")}, {"tol": 0.0}])
def test_bad_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ChainError, match=next(iter(arguments))):
        quasi_stationary(Dense(torch.full((4, 4), 0.25)), torch.arange(4) == 0, **arguments)  # type: ignore[arg-type]
