"""A step of a walk with a proof: true errors, against more digits than it has, stay below η."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenrank.markov.engine import certify
from tokenrank.markov.engine.certify import SINGLE, certified_step, exponent, spread, widest
from tokenrank.operators import from_query_key, from_weights

LONG = np.longdouble
TOLERANCES = {"single": 1.0, "corrected": 2.5e-7, "double": 0.0}


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def long_logits(q: Tensor, k: Tensor, scale: float) -> np.ndarray:
    left, right = (t.double().numpy().astype(LONG) for t in (q, k))
    return LONG(scale) * np.einsum("hid,hjd->hij", left, right)


def queries(kind: str, n: int) -> tuple[Tensor, Tensor, float]:
    g = torch.Generator().manual_seed(n)
    q, k = torch.randn(2, 3, n, 16, generator=g)
    if kind == "large":
        return 6 * q, 6 * k, 1.0
    if kind == "flat":
        return 1e-3 * q, k, 0.25
    if kind == "half":
        return (2 * q).bfloat16(), (2 * k).bfloat16(), 0.25
    if kind == "one far ahead":  # rows of one large probability and a long tail of equal ones
        k = torch.zeros(3, n, 16)
        k[:, 0, 0] = 1.0
        q = torch.full((3, n, 16), 0.0)
        q[..., 0] = torch.linspace(0, 90, n)
        return q, k, 1.0
    return q, k, 0.25


@pytest.mark.parametrize("way", list(TOLERANCES))
@pytest.mark.parametrize("kind", ["ordinary", "large", "flat", "half", "one far ahead"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_step_is_within_its_bound_of_long_double(kind, way, causal):
    n = 130
    q, k, scale = queries(kind, n)
    operator = from_query_key(q, k, scale, None, causal, path="device")
    logits = long_logits(q, k, scale)
    if causal:
        logits = np.where(np.tril(np.ones((n, n), bool)), logits, -np.inf)
    a = softmax(logits)
    g = torch.Generator().manual_seed(2)
    for x in (torch.full((3, n), 1 / n, dtype=torch.float64), torch.rand(3, n, generator=g).double().softmax(-1)):
        assert exponent(TOLERANCES[way], n) == way
        y, eta = certified_step(operator, x, TOLERANCES[way])
        exact = np.einsum("hij,hi->hj", a, x.numpy().astype(LONG))
        off = np.abs(y.numpy().astype(LONG) - exact).sum(-1)
        assert (off <= eta.numpy()).all(), (off, eta)
        assert (eta < {"single": 2e-6, "corrected": 2.6e-7, "double": 1e-10}[way]).all()


def test_the_exponent_of_single_precision_is_what_the_bound_counts():
    """Rounding exponents away from the truth by u₃₂ |t| each, in the worst direction, reaches the bound to a factor."""
    n = 400
    g = torch.Generator().manual_seed(4)
    t = -20 * torch.rand(2000, n, generator=g, dtype=torch.float64) ** 3
    t[:, 0] = 0.0
    a = t.softmax(-1)
    worst = torch.where(torch.rand(2000, n, generator=g) < 0.5, 1.0, -1.0) * SINGLE * t
    moved = a * (1 + worst)
    moved = moved / moved.sum(-1, keepdim=True)
    off = (moved - a).abs().sum(-1)
    bound = SINGLE * spread(t.exp().sum(-1), n)
    assert bool((off <= bound).all())
    assert float((off / bound).max()) > 0.1


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_spread_bounds_the_root_of_the_second_moment(n):
    g = torch.Generator().manual_seed(n)
    for sharp in (0.1, 1.0, 5.0, 30.0, 600.0):
        t = -sharp * torch.rand(300, n, generator=g, dtype=torch.float64)
        t[:, 0] = 0.0
        a = t.softmax(-1)
        bound = spread(t.exp().sum(-1), n)
        assert bool(((a * t.square()).sum(-1).sqrt() <= bound).all())
        assert float(bound.max()) <= 1.01 * widest(n) + 0.2
    # it is reached where all others are alike
    share = n ** (-0.5)
    t = torch.full((1, n), math.log(share), dtype=torch.float64)
    t[:, 0] = 0.0
    root = (t.softmax(-1) * t.square()).sum(-1).sqrt()
    if share < math.exp(-2):
        assert torch.allclose(root, spread(t.exp().sum(-1), n), rtol=2e-3)


@pytest.mark.parametrize("way", list(TOLERANCES))
def test_each_exponential_is_off_by_what_is_counted_and_no_less_than_the_better_ones(way):
    t = -85 * torch.rand(1, 100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = np.exp(t.numpy().astype(LONG))
    found = certify._EXPONENTIALS[way](t.clone()).numpy()
    off = np.abs(found / exact - 1).max()
    counted = {"single": certify.EXPONENTIAL + 85 * SINGLE, "corrected": certify.EXPONENTIAL + certify.CURVED}
    assert off <= counted.get(way, 1e-15)
    assert off >= {"single": 20 * SINGLE, "corrected": 0.4 * SINGLE, "double": 0.0}[way], "nothing was to be seen"


def test_exponentials_of_this_machine_are_as_good_as_counted():
    """2 units in the last place: CUDA promises them; here they are measured."""
    t = -torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 87
    t = t.float().double()
    single = t.float().exp().double()
    assert float((single / t.exp() - 1).abs().max()) <= certify.EXPONENTIAL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stored_weights_are_exact_but_for_sums(dtype):
    g = torch.Generator().manual_seed(1)
    weights = torch.rand(2, 90, 90, generator=g, dtype=dtype).pow(4)
    operator = from_weights(weights / weights.sum(-1, keepdim=True), path="device")
    x = torch.rand(2, 90, 3, generator=g, dtype=torch.float64)
    y, eta = certified_step(operator, x, 0.0)
    a = operator.weights.double().numpy().astype(LONG)
    if dtype == torch.float32:
        a = a / a.sum(-1, keepdims=True)
    exact = np.einsum("hij,hic->hjc", a, x.numpy().astype(LONG))
    off = np.abs(y.numpy() - exact).sum(1)
    assert (off <= eta.numpy()).all()
    assert bool((eta <= 1e-13 * x.sum(1)).all())


def test_queries_that_see_nothing_lead_nowhere():
    q, k = torch.randn(2, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    operator = from_query_key(q, k, None, None, False, path="device")
    operator = type(operator)(q, k, 0.5, None, False, bias=torch.full((1, 8), -math.inf).double(), path="device")
    x = torch.full((1, 8), 1 / 8, dtype=torch.float64)
    for tol in TOLERANCES.values():
        y, eta = certified_step(operator, x, tol)
        assert not bool(y.any())
        assert bool(torch.isfinite(eta).all())
