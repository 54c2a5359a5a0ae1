"""Coefficients of ergodicity, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tokenrank.markov import dobrushin, doeblin, lambda2
from tokenrank.markov.engine import constants
from tokenrank.operators import Dense, Lazy, Operator, Product, from_query_key, from_weights

from . import heads
from .strategies import chains


def function(operator: Operator) -> Tensor:
    found = dobrushin(operator)
    exact = not bool(operator.row_error(torch.float64).any())  # of a product, sums between layers are rounded
    assert str(found.certificate).startswith("exact" if exact else "converged, error ≤")
    return found.values


def expected(a: Tensor) -> Tensor:
    a = a.double()
    return 0.5 * (a[..., :, None, :] - a[..., None, :, :]).abs().sum(-1).amax((-2, -1))


@pytest.mark.parametrize("n", [1, 2, 7, 60])
@pytest.mark.parametrize("block", [256, 7])
def test_all_pairs(n: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "COMPARED_ROWS", block)
    a = torch.randn(2, 3, n, n, dtype=torch.float64).mul(2).softmax(-1)
    found = function(Dense(a))
    assert found.shape == (2, 3)
    assert torch.allclose(found, expected(a), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("causal", [False, True])
def test_matrix_free(dtype: torch.dtype, causal: bool, matrix_free: None) -> None:
    operator = from_query_key(*torch.randn(2, 2, 3, 30, 8, dtype=dtype), None, None, causal)
    exact = expected(operator.to_dense(torch.float64))
    assert torch.allclose(function(operator), exact, atol=1e-13)
    assert (doeblin(operator) >= exact - 1e-12).all()


@pytest.mark.parametrize(
    ("a", "value"),
    [
        (torch.full((5, 5), 0.2), 0.0),  # the start is forgotten at once
        (torch.eye(5), 1.0),
        (torch.eye(5).roll(1, 1), 1.0),
        (torch.tensor([[0.9, 0.1], [0.3, 0.7]]), 0.6),  # λ₂ of two tokens
        (torch.ones(1, 1), 0.0),
    ],
)
def test_known_chains(a: Tensor, value: float) -> None:
    for coefficient in (function, doeblin):
        assert coefficient(Dense(a)).item() == pytest.approx(value, abs=1e-7)


def test_what_total_variation_does_in_one_step() -> None:
    a = torch.from_numpy(heads.nine_heads()["random"])
    delta = function(Dense(a))
    mu, nu = (torch.from_numpy(np.random.default_rng(i).dirichlet(np.full(heads.N, 0.1))) for i in range(2))
    assert (mu @ a - nu @ a).abs().sum() <= delta * (mu - nu).abs().sum()


def test_layers_forget_together() -> None:
    """δ of a product is at most the product of the δ: how much of its start a walk can remember, layer by layer."""
    layers = torch.randn(4, 2, 40, 40, dtype=torch.float64).softmax(-1)
    steps: list[Operator] = [Lazy(Dense(layer), 0.5) for layer in layers]
    shrinking = torch.stack([function(Product(steps[: k + 1])) for k in range(4)])
    each = torch.stack([function(step) for step in steps])
    assert (shrinking.diff(dim=0) < 0).all()
    assert (shrinking <= each.cumprod(0) + 1e-14).all()
    dense = layers[0]
    for layer in layers[1:]:
        dense = dense @ layer
    assert torch.allclose(function(Product([Dense(layer) for layer in layers])), expected(dense), atol=1e-14)


def test_nine_heads_in_order() -> None:
    """|λ₂| ≤ δ ≤ Doeblin's bound."""
    operator = Dense(heads.stacked())
    delta = function(operator)
    assert (lambda2(operator).values <= delta + 1e-9).all()
    assert (delta <= doeblin(operator) + 1e-12).all()


@settings(max_examples=100)
@given(chains(largest=12))
def test_adversarial_chains(a: np.ndarray) -> None:
    operator = from_weights(torch.from_numpy(a))
    exact = float(expected(torch.from_numpy(a)))
    assert float(function(operator)) == pytest.approx(exact, abs=1e-12)
    assert exact - 1e-12 <= float(doeblin(operator)) <= 1
