"""Sink diagnostics against sums over dense weights, and on heads whose sinks are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.operators import oracles
from tokenrank.errors import ChainError
from tokenrank.markov.sinks import Sinks, sinks
from tokenrank.operators import Dense, Mixture, Operator, Teleport, from_query_key, from_weights

from . import heads


def by_hand(a: Tensor, possible: Tensor) -> tuple[list[float], list[float], list[int]]:
    """Mean over the queries that see a token, lift over even attention, and their number; one chain, loops."""
    n = len(a)
    mean, lift, seen = [], [], []
    for j in range(n):
        queries = [i for i in range(n) if possible[i, j]]
        column = sum(float(a[i, j]) for i in queries)
        even = sum(1 / int(possible[i].sum()) for i in queries)
        mean.append(column / len(queries) if queries else 0.0)
        lift.append(column / even if queries else 0.0)
        seen.append(len(queries))
    return mean, lift, seen


def compare(found: Sinks, a: Tensor, possible: Tensor) -> None:
    n = a.shape[-1]
    flat = [t.reshape(-1, n) for t in (found.values, found.lift, found.queries, found.share)]
    possible = possible.expand(a.shape).reshape(-1, n, n)
    for i, one in enumerate(a.double().reshape(-1, n, n)):
        mean, lift, queries = by_hand(one, possible[i])
        assert flat[0][i].tolist() == pytest.approx(mean, abs=1e-10)
        assert flat[1][i].tolist() == pytest.approx(lift, abs=1e-10)
        assert flat[2][i].tolist() == queries
        assert flat[3][i].tolist() == pytest.approx((one.sum(0) / n).tolist(), abs=1e-10)


@pytest.mark.parametrize(
    "kind", ["full", "causal", "padded", "causal and padded", "mask", "window", "weights", "mixture"]
)
def test_against_loops(kind: str) -> None:
    n = 13
    q, k = torch.randn(2, 2, 3, n, 4, dtype=torch.float64).mul(2)
    i = torch.arange(n)
    possible = torch.ones(n, n, dtype=torch.bool)
    if "causal" in kind or kind in ("weights", "mixture"):
        possible = possible.tril()
    if "padded" in kind:
        possible = possible & (i < n - 3)
    if kind == "mask":
        possible = torch.rand(2, 1, n, n) < 0.5
        possible[..., i, i] = True
    if kind == "window":
        possible = (i <= i[:, None]) & (i > i[:, None] - 4)
    a = oracles.attention(q, k, mask=possible)
    operator: Operator
    if kind == "weights":
        operator = from_weights(a)
    elif kind == "mixture":
        w = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).expand(2, 3)
        operator, a = Mixture(from_query_key(q, k, None, None, True), w), oracles.mix(a, w)
    elif kind == "causal and padded":
        operator = from_query_key(q, k, None, (i < n - 3)[None], True)
    elif kind == "padded":
        operator = from_query_key(q, k, None, (i < n - 3)[None], False)
    elif kind in ("full", "causal"):
        operator = from_query_key(q, k, None, None, kind == "causal")
    else:
        operator = from_query_key(q, k, None, possible, False)
    found = sinks(operator)
    assert found.values.shape == found.lift.shape == found.queries.shape == found.tokens.shape == (*operator.batch, n)
    assert found.mass.shape == operator.batch
    assert found.values.dtype == found.share.dtype == torch.float64
    compare(found, a, possible)


def test_nine_heads() -> None:
    """Of the nine heads one has a sink: token 0, with 0.6 of everybody's attention and its part of the noise."""
    found = sinks(Dense(heads.stacked(torch.float32)))
    where = found.tokens.nonzero().tolist()
    assert where == [[heads.NAMES.index("sink"), 0]]
    mass = found.mass[heads.NAMES.index("sink")]
    assert float(mass) == pytest.approx(0.6, abs=0.01)
    assert float(found.mass.sum()) == pytest.approx(float(mass))
    assert torch.allclose(found.share.sum(-1), torch.ones(9, dtype=torch.float64))
    assert found.first.tolist() == [name == "sink" for name in heads.NAMES]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 64])
def test_even_causal_attention_has_no_sink(n: int) -> None:
    """The first of a few tokens has a large mean merely for being early; its lift is one."""
    found = sinks(from_query_key(torch.zeros(1, n, 2), torch.zeros(1, n, 2), None, None, True))
    harmonic = sum(1 / i for i in range(1, n + 1))
    assert float(found.values[0, 0]) == pytest.approx(harmonic / n)
    assert torch.allclose(found.lift, torch.ones(1, n, dtype=torch.float64))
    assert not found.tokens.any()
    assert float(found.mass) == 0


def test_attending_to_oneself_is_no_sink() -> None:
    """The last tokens are seen by themselves and few others."""
    n = 40
    found = sinks(Dense(torch.eye(n), "lower"))  # nobody attends to anybody else
    assert not found.tokens.any()
    q = 6 * torch.randn(1, n, 16)  # keys like the queries: a token mostly attends to itself
    found = sinks(from_query_key(q, q, 1.0, None, True))
    assert (found.values[0, -5:] > 0.15).all()
    assert not found.tokens[0, -5:].any()


def test_a_sink_in_the_middle() -> None:
    n = 30
    a = torch.full((n, n), 0.1).tril()
    a[10:, 10] = 20.0
    found = sinks(from_weights(a / a.sum(-1, keepdim=True)))
    assert found.tokens.nonzero().tolist() == [[10]]
    assert float(found.mass) == pytest.approx(float(found.share[10]))
    assert int(found.queries[10]) == 20


def test_the_threshold_decides() -> None:
    a = torch.full((8, 8), 0.7 / 7, dtype=torch.float64)
    a[:, 2] = 0.3
    assert sinks(Dense(a), 0.29).tokens.nonzero().tolist() == [[2]]
    assert not sinks(Dense(a), 0.31).tokens.any()
    assert sinks(Dense(a), 0.31).threshold == 0.31
    # half of all attention on one of two tokens is no more than its even share
    assert not sinks(Dense(torch.full((2, 2), 0.5))).tokens.any()


def test_teleport_spreads_attention() -> None:
    a = torch.full((10, 10), 0.02, dtype=torch.float64)
    a[:, 4] = 0.82
    jump = torch.full((10,), 0.1, dtype=torch.float64)
    found = sinks(Teleport(Dense(a), 0.5, jump))
    assert float(found.values[4]) == pytest.approx(0.46)
    assert bool(found.tokens[4])


@given(n=st.integers(1, 20), seed=st.integers(0, 2**20), scale=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_shares_sum_to_one(n: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k = scale * torch.randn(2, 2, n, 3, generator=generator)
    for causal in (False, True):
        found = sinks(from_query_key(q, k, None, None, causal), 0.0)
        assert torch.allclose(found.share.sum(-1), torch.ones(2, dtype=torch.float64))
        assert (found.mass <= 1 + 1e-12).all()
        assert (found.values <= 1 + 1e-9).all()
        for field in (found.values, found.share, found.lift):
            assert torch.isfinite(field).all()
            assert (field >= 0).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(ChainError, match="threshold"):
        sinks(Dense(torch.full((2, 2), 0.5)), threshold)
