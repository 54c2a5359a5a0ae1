"""Pooled chains against the mean of dense weights in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.markov.engine.batching import rows_of
from tokenrank.operators import Pooled, from_query_key, from_weights, reverse
from tokenrank.operators.base import Measure


def made(n=9, heads=(3, 2), seed=0, dtype=torch.float64, mask=None):
    """A pooled chain of several calls, and its matrix."""
    g = torch.Generator().manual_seed(seed)
    parts = [
        from_query_key(*(torch.randn(h, n, 4, generator=g, dtype=dtype) for _ in "qk"), None, mask, False)
        for h in heads
    ]
    weights = torch.rand(sum(heads), generator=g, dtype=torch.float64)
    weights = (weights / weights.sum()).split(list(heads))
    dense = sum(
        (w[:, None, None] * part.to_dense(torch.float64)).sum(0) for w, part in zip(weights, parts, strict=True)
    )
    return Pooled([lambda part=part: part for part in parts], weights), dense


def test_products_rows_and_columns_are_those_of_the_mean():
    pooled, dense = made()
    x = torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(pooled @ x, dense @ x)
    torch.testing.assert_close(pooled.T @ x, dense.T @ x)
    torch.testing.assert_close(pooled.rows(2, 6), dense[2:6])
    torch.testing.assert_close(pooled.columns(2, 6), dense[:, 2:6])
    torch.testing.assert_close(pooled.diagonal(), dense.diagonal())


@given(st.integers(0, 10_000), st.integers(2, 7), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_turned_round_with_any_measure_it_is_bayes_rule(seed, n, heads):
    pooled, dense = made(n, heads, seed)
    measure = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    joint = measure[:, None] * dense
    back, image = pooled.turn(Measure(measure.log(), torch.zeros((), dtype=torch.float64)))
    torch.testing.assert_close(image.log.exp(), joint.sum(0))
    torch.testing.assert_close(back.to_dense(), (joint / joint.sum(0)).mT)
    again = reverse(reverse(pooled))
    once = (dense / dense.sum(0)).mT
    torch.testing.assert_close(again.to_dense(), (once / once.sum(0)).mT)


def test_several_blocks_of_rows_are_summed(monkeypatch):
    monkeypatch.setattr("tokenrank.operators.pooled.POOL_BYTES", 1)
    pooled, dense = made(150)
    x = torch.randn(150, 2, dtype=torch.float64)
    torch.testing.assert_close(pooled @ x, dense @ x)
    torch.testing.assert_close(pooled.T @ x, dense.T @ x)


def test_masks_are_its_support_and_a_head_never_drawn_counts_for_nothing():
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    causal = from_query_key(torch.randn(1, 6, 4), torch.randn(1, 6, 4), None, mask, False)
    even = from_weights(torch.full((1, 6, 6), 1 / 6))
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert bool(Pooled([lambda: causal, lambda: even], [one / 2, one / 2]).support().all())
    alone = Pooled([lambda: causal, lambda: even], [one, none])
    assert torch.equal(alone.support(), mask)
    torch.testing.assert_close(alone.to_dense(), causal.to_dense()[0])


def test_single_precision_stays_within_its_bound():
    pooled, _ = made(40, dtype=torch.float32)
    exact = pooled.to_dense(torch.float64)
    off = (pooled.to_dense().double().log() - exact.log()).abs().amax()
    assert 0 < float(off) <= float(pooled.entry_error(torch.float32))


def test_it_is_one_chain_and_says_so():
    pooled, dense = made()
    assert pooled.reshape(1, 1).shape == (1, 1, 9, 9)
    assert pooled.reshape(1).index(0).shape == (9, 9)
    assert torch.equal(pooled.reshape(1).rows(0, 9), pooled.rows(0, 9)[None])
    with pytest.raises(ChainError, match="leading dimensions"):
        pooled.reshape(2)
    with pytest.raises(ChainError, match="expected one"):
        pooled.reshape(1).index([0, 0])
    with pytest.raises(ChainError, match="as many"):
        Pooled([], [])
    assert tr.AttentionChain.from_operator(pooled).lambda2().values == pytest.approx(
        np.sort(np.abs(np.linalg.eigvals(dense.numpy())))[-2]
    )


def test_its_parts_are_made_one_at_a_time_and_let_go():
    alive, most = 0, 0
    weights = torch.full((2, 5, 5), 0.2)

    class Part(type(from_weights(weights))):
        def __init__(self, *given):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            super().__init__(*given)

        def __del__(self):
            nonlocal alive
            alive -= 1

        def index(self, *index):
            return from_weights(self.weights[index])

    third = torch.full((2,), 1 / 6, dtype=torch.float64)
    pooled = Pooled([lambda: Part(weights)] * 3, [third] * 3)
    pooled @ torch.ones(5, 1)
    assert (alive, most) == (0, 2)  # the next is made before the last is let go


@pytest.mark.parametrize("tokens", [range(40), range(3, 40), [*range(5, 30), 41], [0, 7, 8, 39], []])
def test_rows_of_tokens_that_follow_each_other_are_those_of_units(tokens):
    pooled, dense = made(45)
    torch.testing.assert_close(rows_of(pooled, torch.tensor(list(tokens), dtype=torch.long)), dense[list(tokens)])
