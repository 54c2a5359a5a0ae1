"""The chain watched only on some tokens, against dense complements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operators import oracles as dense_oracles
from tokenrank.errors import ChainError
from tokenrank.markov import censor, stationary
from tokenrank.operators import Dense, Lazy, Teleport, from_query_key, from_weights

from . import heads, oracles, rational
from .strategies import chains

KEEP = torch.tensor([i for i in range(heads.N) if i % 3])


@pytest.mark.parametrize("keep", [KEEP, torch.tensor([0, 1, 255]), torch.arange(1, 256)])
def test_nine_heads(keep: torch.Tensor) -> None:
    found = censor(Dense(heads.stacked()), keep)
    dense = found.to_dense()
    assert torch.allclose(dense, dense_oracles.censor(heads.stacked(), keep), atol=1e-11)
    assert torch.allclose(dense.sum(-1), torch.ones(()).double(), atol=1e-13)
    assert torch.allclose(found.returns.sum(-1), torch.ones(()).double(), atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_queries_and_keys(dtype: torch.dtype) -> None:
    operator = from_query_key(*torch.randn(2, 2, 3, 40, 8, dtype=dtype), None, None, False)
    keep = torch.arange(5, 35)
    found = censor(operator, keep)
    exact = dense_oracles.censor(operator.to_dense(torch.float64), keep)
    assert found.shape == (2, 3, 30, 30)
    assert found.dtype == dtype
    assert torch.allclose(found.to_dense(torch.float64), exact, atol=1e-12)
    assert torch.allclose(found.matmul(torch.ones(2, 3, 30, 1, dtype=dtype)), torch.ones(()).to(dtype), atol=1e-5)


def test_stationary_distribution_is_that_of_the_chain_on_what_is_kept() -> None:
    weights = heads.stacked()
    pi = torch.from_numpy(np.stack([oracles.gth(a) for a in weights.numpy()]))[:, KEEP]
    pi = pi / pi.sum(-1, keepdim=True)
    found = censor(Dense(weights), KEEP)
    even = torch.full(found.shape[:-1], 1 / len(KEEP), dtype=torch.float64)
    answer = stationary(found, 1.0, even, 1e-12, 5000)
    assert ((answer.values - pi).abs().sum(-1) < 1e-7).all()


def test_causal_without_tokens_in_the_middle() -> None:
    """Still causal; without its first token there is nothing to come back to."""
    operator = from_query_key(*torch.randn(2, 3, 30, 8, dtype=torch.float64), None, None, True)
    keep = torch.tensor([0, 3, 4, 5, 20, 29])
    found = censor(operator, keep)
    assert found.structure == "lower"
    assert torch.allclose(found.to_dense(), dense_oracles.censor(operator.to_dense(), keep), atol=1e-12)
    with pytest.raises(
        ChainError, match=r"token 0 of chain \[0\] is removed, and the walk comes back .* probability 0 "
    ):
        censor(operator, torch.arange(1, 30))
    jump = torch.full((3, 30), 1 / 30, dtype=torch.float64)
    teleported = Teleport(operator, 0.9, jump)
    exact = dense_oracles.censor(teleported.to_dense(), torch.arange(1, 30))
    assert torch.allclose(censor(teleported, torch.arange(1, 30)).to_dense(), exact, atol=1e-12)


def test_everything_is_kept() -> None:
    a = torch.rand(2, 5, 5).softmax(-1)
    found = censor(Dense(a), torch.arange(5))
    assert torch.allclose(found.to_dense(), a)


def test_a_rare_trap_is_found_by_where_steps_are_possible() -> None:
    """Token 2 comes back with probability 1 − 10⁻¹², or is caught in token 3."""
    a = torch.tensor([[0.5, 0, 0.5, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 1e-12], [0, 0, 0, 1]], dtype=torch.float64)
    with pytest.raises(ChainError, match=r"token 2 of the chain is removed"):
        censor(from_weights(a), torch.tensor([0, 1]))
    assert censor(from_weights(a), torch.tensor([0, 1, 3])).shape == (3, 3)


def test_traps_that_nobody_gets_into_do_no_harm() -> None:
    a = torch.tensor([[0.5, 0.5, 0], [0.25, 0.75, 0], [0, 0, 1]])
    assert torch.allclose(censor(Dense(a), torch.tensor([0, 1])).to_dense(), a[:2, :2])


def test_the_chain_of_the_batch_is_named() -> None:
    a = torch.full((2, 3, 3, 3), 1 / 3)
    a[1, 2] = torch.tensor([[0, 0.5, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    with pytest.raises(ChainError, match=r"token 1 of chain \[1, 2\]"):
        censor(Dense(a), torch.tensor([0, 2]))


@settings(max_examples=100)
@given(chains(largest=10), st.integers(0, 2**20))
def test_a_refusal_or_the_complement(a: np.ndarray, seed: int) -> None:
    n = len(a)
    keep = np.sort(np.random.default_rng(seed).permutation(n)[: max(1, n // 2)])
    removed = [i for i in range(n) if i not in keep]
    kept = {int(k) for k in keep}
    _, misses = rational.missing(a, kept)
    entered = {j for j in removed if a[keep, j].any()}
    operator = from_weights(torch.from_numpy(a))
    if entered & misses:
        with pytest.raises(ChainError, match="comes back from it"):
            censor(operator, torch.from_numpy(keep))
        return
    found = censor(operator, torch.from_numpy(keep)).to_dense()
    p = rational.chain(a)
    walking = [i for i in removed if i not in misses]
    returns = rational.killed(p, walking, [[p[i][k] for k in sorted(kept)] for i in walking])
    for row, k in enumerate(sorted(kept)):
        for column, other in enumerate(sorted(kept)):
            exact = a[k, other] + sum(a[k, j] * float(returns[j][column]) for j in walking)
            assert float(found[row, column]) == pytest.approx(float(exact), rel=1e-9, abs=1e-15)
    assert torch.allclose(found.sum(-1), torch.ones(()).double(), atol=1e-12)


def test_lazily_again_and_again() -> None:
    a = torch.rand(6, 6, dtype=torch.float64).softmax(-1)
    twice = censor(Lazy(censor(Dense(a), torch.arange(5)), 0.5), torch.arange(3))
    once = dense_oracles.censor(
        0.5 * torch.eye(5).double() + 0.5 * dense_oracles.censor(a, torch.arange(5)), torch.arange(3)
    )
    assert torch.allclose(twice.to_dense(), once, atol=1e-13)


@pytest.mark.parametrize("keep", [[], [2, 1], [1, 1], [-1, 2], [0, 3]])
def test_indices_that_make_no_sense(keep: list[int]) -> None:
    with pytest.raises(ChainError, match="increasing, from 0 to 2"):
        censor(Dense(torch.eye(3)), torch.tensor(keep, dtype=torch.int64))
