"""The walk between rows that are alike, against its definition in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank.errors import ChainError
from tokenrank.operators import QueryKey, cosine_spread, from_features


def cosines(features: torch.Tensor) -> torch.Tensor:
    """By the definition, entry by entry."""
    rows = features.double()
    lengths = rows.norm(dim=-1)
    count = len(rows)
    return torch.tensor([[float(rows[i] @ rows[j] / (lengths[i] * lengths[j])) for j in range(count)]
                         for i in range(count)], dtype=torch.float64)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**31 - 1), st.floats(0.05, 5.0), st.floats(0.0, 30.0))
def test_it_is_the_softmax_of_cosines_over_tau(count: int, width: int, seed: int, tau: float, mean: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = mean + torch.randn(count, width, generator=generator, dtype=torch.float64)
    operator = from_features(features, tau)
    assert isinstance(operator, QueryKey)  # nothing is built
    expected = (cosines(features) / tau).softmax(-1)
    torch.testing.assert_close(operator.to_dense(torch.float64), expected, rtol=1e-9, atol=1e-12)
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(operator.matmul(x), expected @ x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(operator.rmatmul(x.abs()), expected.T @ x.abs(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("count", "width"), [(5, 9), (40, 3), (1, 4), (7, 1)])
def test_the_spread_is_the_standard_deviation_of_all_pairs(count: int, width: int) -> None:
    torch.manual_seed(0)
    features = 0.5 + torch.randn(count, width, dtype=torch.float64)
    expected = cosines(features).std(correction=0).item()
    assert float(cosine_spread(features)) == pytest.approx(expected, abs=1e-8)
    if expected > 0.01:
        operator = from_features(features)
        assert 1 / operator.scale == pytest.approx(expected / 2, rel=1e-6)


def test_a_shared_mean_does_not_wash_the_walk_out() -> None:
    """Two groups, whose cosines a large common feature squeezes together: τ follows, and the walk tells them apart."""
    torch.manual_seed(0)
    own = torch.eye(2).repeat_interleave(10, 0) @ torch.randn(2, 16) + 0.1 * torch.randn(20, 16)
    for mean in (0.0, 10.0, 30.0):
        features = own + mean
        walk = from_features(features).to_dense(torch.float64)
        stays = walk[:10, :10].sum(-1).mean()
        assert stays > 0.9
    fixed = from_features(own + 30.0, 0.1).to_dense(torch.float64)
    assert fixed[:10, :10].sum(-1).mean() < 0.55


def test_features_that_are_all_alike_make_an_even_walk() -> None:
    for features in (torch.ones(6, 3), torch.full((6, 384), 0.1), 7 * torch.ones(6, 3).double(), torch.zeros(6, 3)):
        walk = from_features(features).to_dense(torch.float64)
        torch.testing.assert_close(walk, torch.full((6, 6), 1 / 6, dtype=torch.float64), rtol=1e-3, atol=0)


def test_half_precision_is_widened() -> None:
    torch.manual_seed(0)
    features = torch.randn(8, 5)
    half = from_features(features.half(), 0.2)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.to_dense(), from_features(features, 0.2).to_dense(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("tau", [0, -0.1, math.nan, math.inf, "0.1", True])
def test_another_temperature_is_refused(tau: object) -> None:
    with pytest.raises(ChainError, match="expected a temperature above 0"):
        from_features(torch.randn(4, 3), tau)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (torch.randn(4), r"expected \(\*batch, N, d\)"),
        (torch.zeros(0, 3), r"expected \(\*batch, N, d\)"),
        (torch.tensor([[1.0, math.nan]]), "feature"),
        (torch.ones(3, 2, dtype=torch.int64), "int64"),
        (torch.randn(2, 4, 3), "2 sets of features"),
    ],
)
def test_features_that_cannot_be_used(features: torch.Tensor, words: str) -> None:
    with pytest.raises(ChainError, match=words):
        from_features(features)
