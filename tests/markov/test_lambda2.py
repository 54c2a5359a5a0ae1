"""|λ2| against all eigenvalues, from weights and matrix-free."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.operators import oracles as dense_oracles
from tokenrank.markov import Lambda2, lambda2
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Mixture, Operator, Teleport, from_query_key, from_weights, reverse

from . import heads, oracles

CYCLIC = heads.NAMES.index("cyclic")


def moduli(dense: Tensor) -> Tensor:
    flat = dense.double().reshape(-1, *dense.shape[-2:]).numpy()
    return torch.tensor([oracles.second_modulus(a) for a in flat], dtype=torch.float64).reshape(dense.shape[:-2])


def relative(answer: Lambda2, expected: Tensor) -> Tensor:
    return (answer.values.double() - expected).abs() / expected


# ---- the nine heads


@pytest.mark.parametrize("route", ["dense", "materialised", "matrix-free"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nine_heads(route: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    """To 1e-4, that of the cyclic head, whose eigenvalues lie on a ring, by all eigenvalues."""
    weights = heads.stacked(dtype)
    operator: Operator = Dense(weights) if route == "dense" else heads.as_query_key(weights)
    if route == "matrix-free":
        request.getfixturevalue("matrix_free")
    answer = lambda2(operator)
    assert answer.values.shape == answer.certificate.residual.shape == answer.certificate.uncertain.shape == (9,)
    assert answer.values.dtype == dtype
    error = relative(answer, moduli(heads.stacked()))
    assert error.max() <= 1e-4, error
    assert not answer.certificate.uncertain.any()
    assert answer.certificate.applies <= 400
    bound = answer.certificate.error_bound
    assert bound is not None
    assert bound[CYCLIC] < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_ring_beyond_the_reach_of_all_eigenvalues_is_flagged(dtype: torch.dtype) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "LAMBDA2_STUBBORN", 0)
        answer = lambda2(Dense(heads.stacked(dtype)))
    error = relative(answer, moduli(heads.stacked()))
    assert error[CYCLIC] <= 5e-3
    assert answer.certificate.uncertain[CYCLIC]
    others = torch.arange(9) != CYCLIC
    assert error[others].max() <= 1e-4, error
    assert not answer.certificate.uncertain[others].any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_give_the_same_answer(seed: int) -> None:
    operator = Dense(heads.stacked())
    first, other = lambda2(operator), lambda2(operator, seed)
    settled = ~other.certificate.uncertain
    assert (relative(other, first.values)[settled] <= 1e-4).all()
    assert relative(other, first.values).max() <= 5e-3
    assert settled.sum() >= 8


def test_same_seed_same_answer() -> None:
    operator = Dense(heads.stacked())
    assert torch.equal(lambda2(operator).values, lambda2(operator).values)


@pytest.mark.parametrize("name", [name for name in heads.NAMES if name != "cyclic"])
def test_a_head_does_not_depend_on_its_batch(name: str) -> None:
    alone = lambda2(Dense(torch.from_numpy(heads.nine_heads()[name])))
    together = lambda2(Dense(heads.stacked()))
    value = together.values[heads.NAMES.index(name)]
    assert float(alone.values) == pytest.approx(float(value), rel=2e-4)


def test_backward() -> None:
    weights = heads.stacked()
    others = torch.arange(9) != CYCLIC
    answer = lambda2(reverse(Dense(weights)))
    error = relative(answer, moduli(dense_oracles.reverse(weights)))
    assert error[others].max() <= 1e-4
    assert error[CYCLIC] <= 5e-3


def test_teleport_multiplies_by_alpha() -> None:
    weights = heads.stacked()[[1, 3, 5]]
    jump = torch.rand(3, heads.N, dtype=torch.float64).softmax(-1)
    answer = lambda2(Teleport(Dense(weights), 0.6, jump))
    assert relative(answer, 0.6 * moduli(weights)).max() <= 1e-4


def test_mixture() -> None:
    weights = heads.stacked()[[0, 3, 6]]
    w = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    answer = lambda2(Mixture(Dense(weights), w))
    assert answer.values.shape == ()
    assert relative(answer, moduli(dense_oracles.mix(weights, w))) <= 1e-4


# ---- small chains: all eigenvalues


@pytest.mark.parametrize("n", [2, 3, 10, 96])
@pytest.mark.parametrize("batch", [(), (3,), (2, 1, 3)])
def test_small(n: int, batch: tuple[int, ...]) -> None:
    weights = torch.randn(*batch, n, n, dtype=torch.float64).mul(3).softmax(-1)
    answer = lambda2(Dense(weights))
    assert answer.values.shape == batch
    assert (answer.values - moduli(weights)).abs().max() <= 1e-10
    assert not answer.certificate.uncertain.any()
    assert not answer.certificate.residual.any()


@pytest.mark.parametrize("n", [97, 98, 100, 103, 130])
def test_just_above_small(n: int) -> None:
    """The Krylov space is almost the whole space here."""
    weights = torch.randn(3, n, n, dtype=torch.float64).mul(3).softmax(-1)
    assert relative(lambda2(Dense(weights)), moduli(weights)).max() <= 1e-3


def test_one_token_has_no_second_eigenvalue() -> None:
    assert lambda2(Dense(torch.ones(2, 1, 1))).values.tolist() == [0.0, 0.0]
    q, k = torch.randn(2, 3, 1, 4)
    assert lambda2(from_query_key(q, k, None, None, False)).values.tolist() == [0.0, 0.0, 0.0]
    assert lambda2(from_query_key(q, k, None, None, True)).values.tolist() == [0.0, 0.0, 0.0]


def test_two_tokens() -> None:
    """trace − 1, and its modulus where that is negative."""
    weights = torch.tensor([[[0.4, 0.6], [0.2, 0.8]], [[0.1, 0.9], [0.8, 0.2]]], dtype=torch.float64)
    assert torch.allclose(lambda2(Dense(weights)).values, torch.tensor([0.2, 0.7], dtype=torch.float64))


# ---- causal chains


@pytest.mark.parametrize("kind", ["weights", "queries and keys", "mask", "matrix-free", "backward"])
def test_causal_from_the_diagonal(kind: str, request: pytest.FixtureRequest) -> None:
    n = 150
    q, k = 2 * torch.randn(2, 3, n, 8, dtype=torch.float64)
    dense = dense_oracles.attention(q, k, is_causal=True)
    operator: Operator
    if kind == "weights":
        operator = from_weights(dense)
    elif kind == "mask":
        operator = from_query_key(q, k, None, torch.ones(n, n).tril().bool(), False)
    else:
        if kind == "matrix-free":
            request.getfixturevalue("matrix_free")
        operator = from_query_key(q, k, None, None, True)
    if kind == "backward":
        operator, dense = reverse(operator), dense_oracles.reverse(dense)
    answer = lambda2(operator)
    # a triangular matrix: eigvals reads the diagonal off too, and is exact
    assert torch.allclose(answer.values, moduli(dense), atol=1e-12)
    assert torch.allclose(answer.values, dense.diagonal(dim1=-2, dim2=-1).sort(-1).values[:, -2], atol=1e-12)
    assert answer.certificate.applies == 1
    assert not answer.certificate.uncertain.any()


# ---- chains with few distinct eigenvalues: Krylov spaces that close early

N = 128


def blocks(sizes: list[int]) -> np.ndarray:
    """Rank one within each block: as many eigenvalues 1 as blocks, and 0."""
    a, begin = np.zeros((sum(sizes), sum(sizes))), 0
    for size in sizes:
        row = np.random.default_rng(size).dirichlet(np.ones(size))
        a[begin : begin + size, begin : begin + size] = row
        begin += size
    return a


def mixed_with_rank_one(p: float) -> np.ndarray:
    """p · (a swap of the two halves) + (1 − p) · J/N: one eigenvalue −p, the rest 0 and 1."""
    half = np.kron([[0, 1], [1, 0]], np.full((N // 2, N // 2), 2 / N))
    return p * half + (1 - p) / N


EXHAUSTED = {
    "identity": (np.eye(N), 1.0),
    "rank one": (np.tile(np.random.default_rng(0).dirichlet(np.ones(N)), (N, 1)), 0.0),
    "even": (np.full((N, N), 1 / N), 0.0),
    "lazy rank one": (0.3 * np.eye(N) + 0.7 / N, 0.3),
    "two blocks": (blocks([64, 64]), 1.0),
    "four blocks": (blocks([10, 20, 30, 68]), 1.0),
    "teleporting blocks": (0.8 * blocks([10, 20, 30, 68]) + 0.2 / N, 0.8),
    "two halves swapped": (mixed_with_rank_one(0.4), 0.4),
    "a swap of tokens": (np.eye(N)[np.arange(N) ^ 1], 1.0),
    "rank two": (0.5 * np.outer(np.ones(N), np.eye(N)[0]) + 0.5 * blocks([32, 96]), 0.5),
}


@pytest.mark.parametrize(("a", "expected"), EXHAUSTED.values(), ids=EXHAUSTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("route", ["dense", "matrix-free"])
def test_exhausted_krylov_spaces(a: np.ndarray, expected: float, dtype: torch.dtype, route: str) -> None:
    weights = torch.from_numpy(a).to(dtype)
    operator: Operator = Dense(weights)  # not from_weights: the triangular ones are to meet Krylov too
    with pytest.MonkeyPatch.context() as patch:
        if route == "matrix-free":
            patch.setattr(constants, "DENSE_BYTES", 0)
            operator = heads.as_query_key(weights)
        for seed in range(3):
            answer = lambda2(operator, seed)
            assert float(answer.values) == pytest.approx(expected, abs=1e-5 if dtype == torch.float32 else 1e-10)
            assert not bool(answer.certificate.uncertain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exhausted_beside_ordinary_heads(dtype: torch.dtype) -> None:
    """In one batch, where spaces close at different times."""
    ordinary = heads.stacked()[[0, 3]][:, :N, :N]
    ordinary = dense_oracles.rows_to_one(ordinary)
    closing = torch.from_numpy(np.stack([a for a, _ in EXHAUSTED.values()]))
    weights = torch.cat([closing, ordinary]).to(dtype)
    expected = torch.cat([torch.tensor([v for _, v in EXHAUSTED.values()]).double(), moduli(ordinary)])
    answer = lambda2(Dense(weights))
    assert (answer.values.double() - expected).abs().max() < 3e-5


def test_a_long_cycle_is_certain_or_flagged() -> None:
    """All eigenvalues of modulus one: Krylov cannot tell, growth can."""
    a = torch.roll(torch.eye(200, dtype=torch.float64), 1, 1)
    answer = lambda2(Dense(a))
    assert float(answer.values) == pytest.approx(1, abs=5e-3)


def test_heads_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = 2 * torch.randn(2, 7, 20, 4, dtype=torch.float64)
    monkeypatch.setattr(constants, "DENSE_BYTES", 3 * 20 * 20 * 8)
    answer = lambda2(from_query_key(q, k, None, None, False))
    assert (answer.values - moduli(dense_oracles.attention(q, k))).abs().max() < 1e-10
