"""Blocked substitution against dense solves, eigenvectors beyond the range of float64, and the refinement loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.operators import oracles
from tokenrank.errors import ChainError
from tokenrank.markov.engine import constants
from tokenrank.markov.engine.refine import by_gmres, checked_effort, refine
from tokenrank.markov.engine.triangular import solve_triangular, triangular_vectors
from tokenrank.operators import Dense, Operator, from_query_key, reverse


def chain(kind: str, n: int, heads: int = 2) -> tuple[Operator, Tensor]:
    q, k = 2 * torch.randn(2, heads, n, 4, dtype=torch.float64)
    operator, a = from_query_key(q, k, None, None, True), oracles.attention(q, k, is_causal=True)
    return (operator, a) if kind == "lower" else (reverse(operator), oracles.reverse(a))


def off(a: Tensor) -> Tensor:
    return a - torch.diag_embed(a.diagonal(dim1=-2, dim2=-1))


@pytest.mark.parametrize("block", [1, 4, 7, 256])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", ["lower", "upper"])
def test_against_dense_solves(kind: str, transposed: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "TRIANGULAR_BLOCK", block)
    operator, a = chain(kind, 19)
    o = off(a).mT if transposed else off(a)
    p, b = 1 + torch.rand(2, 19, dtype=torch.float64), torch.randn(2, 19, 3, dtype=torch.float64)
    for alpha in (1.0, 0.7, 0.0):
        expected = torch.linalg.solve(torch.diag_embed(p) - alpha * o, b)
        assert torch.allclose(solve_triangular(operator, p, b, alpha, transposed), expected, atol=1e-11)
        vector = solve_triangular(operator, p, b[..., 0], alpha, transposed)
        assert torch.allclose(vector, expected[..., 0], atol=1e-11)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", ["lower", "upper"])
def test_pivots_of_their_own_and_pivots_from_rows(kind: str, transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "TRIANGULAR_BLOCK", 5)
    operator, a = chain(kind, 13)
    o = off(a).mT if transposed else off(a)
    b, each = torch.randn(2, 13, 3, dtype=torch.float64), 1 + torch.rand(2, 13, 3, dtype=torch.float64)
    columns = solve_triangular(operator, each, b, 1.0, transposed)
    for c in range(3):
        assert torch.allclose(columns[..., c], solve_triangular(operator, each[..., c], b[..., c], 1.0, transposed))
    found = solve_triangular(
        operator, lambda rows, part: 1.5 - rows[..., part].diagonal(dim1=-2, dim2=-1), b, 1.0, transposed
    )
    expected = torch.linalg.solve(torch.diag_embed(1.5 - a.diagonal(dim1=-2, dim2=-1)) - o, b)
    assert torch.allclose(found, expected, atol=1e-11)


@given(gone=st.sets(st.integers(0, 11)), transposed=st.booleans(), kind=st.sampled_from(["lower", "upper"]))
def test_an_infinite_pivot_takes_a_token_out(gone: set[int], transposed: bool, kind: str) -> None:
    operator, a = chain(kind, 12, 1)
    kept = torch.tensor([i for i in range(12) if i not in gone], dtype=torch.int64)
    p, b = torch.full((1, 12), torch.inf, dtype=torch.float64), torch.randn(1, 12, dtype=torch.float64)
    p[:, kept] = 1.25
    x = solve_triangular(operator, p, b, 1.0, transposed)
    o = (off(a).mT if transposed else off(a))[:, kept][..., kept]
    expected = torch.linalg.solve(1.25 * torch.eye(len(kept), dtype=torch.float64) - o, b[:, kept, None])[..., 0]
    assert torch.allclose(x[:, kept], expected, atol=1e-11)
    assert (x[:, sorted(gone)] == 0).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_eigenvectors_beyond_the_range_of_float64(transposed: bool) -> None:
    """Self-attention of 0.5 less a few ulps, sixty tokens in a row: vectors grow by 1e10 and more at each."""
    n = 60
    a = torch.full((n, n), 5e-4, dtype=torch.float64).tril(-1)
    diagonal = 0.5 - 2.0**-52 * torch.arange(n - 1, -1, -1)
    a += torch.diag(diagonal)
    a[:, 0] += 1 - a.sum(1)
    found = triangular_vectors(Dense(a[None], "lower"), 3, transposed)[0]
    assert torch.isfinite(found).all()
    assert torch.allclose(torch.linalg.vector_norm(found, dim=0), torch.ones(3, dtype=torch.float64))
    image = (a.mT if transposed else a) @ found
    values = a.diagonal()[1:].topk(3).values
    assert (image - values * found).abs().max() < 1e-12


def test_refinement_reaches_double_precision_from_single() -> None:
    a = torch.randn(3, 40, 40, dtype=torch.float64).softmax(-1)
    operator = Dense(a.float())
    exact, b = operator.to_dense(torch.float64), torch.randn(3, 40, 2, dtype=torch.float64)
    solve = by_gmres(lambda heads: lambda x: 0.9 * (operator.index(heads) @ x), torch.float32, 1e-6)
    answer = refine(
        solve(b, 100),
        solve,
        residual=lambda x: b + 0.9 * (operator @ x) - x,
        settled=lambda r: (r.size <= 1e-13).all(-1),
        max_applies=1000,
        norm=lambda left: left.abs().amax(-2),
    )
    expected = torch.linalg.solve(torch.eye(40, dtype=torch.float64) - 0.9 * exact, b)
    assert (answer.x - expected).abs().max() < 1e-11
    assert answer.size.max() <= 1e-13
    assert torch.equal(answer.left.abs().amax(-2), answer.size)
    assert answer.applies < 100


def test_refinement_keeps_the_best_and_stops_where_nothing_gets_better() -> None:
    """A solver that always makes it worse: the first answer stands after one round."""
    first = torch.full((2, 5, 1), 0.25, dtype=torch.float64)
    answer = refine(
        (first, 3),
        lambda missing, most: (torch.ones_like(missing), 1),
        residual=lambda x: x,
        settled=lambda r: torch.zeros(2, dtype=torch.bool),
        max_applies=100,
        norm=lambda left: left.abs().amax(-2),
    )
    assert torch.equal(answer.x, first)
    assert answer.applies == 6


def test_refinement_begins_again_from_zero_where_the_first_answer_is_not_finite() -> None:
    first = torch.tensor([[torch.nan], [0.5], [torch.inf]], dtype=torch.float64)[..., None]
    answer = refine(
        (first, 1),
        lambda missing, most: (0.9 * missing, 1),
        residual=lambda x: 1 - x,
        settled=lambda r: (r.size <= 1e-3).all(-1),
        max_applies=100,
        norm=lambda left: left.abs().amax(-2),
    )
    assert torch.allclose(answer.x, torch.ones_like(first), atol=1e-3)
    assert (answer.size <= 1e-3).all()


@pytest.mark.parametrize(("tol", "applies", "words"), [(0.0, 5, "tol = 0.0"), (1e-6, 1, "max_applies = 1")])
def test_effort_that_is_none(tol: float, applies: int, words: str) -> None:
    with pytest.raises(ChainError, match=words):
        checked_effort(tol, applies)
