"""A step of a walk keeps its mass, and how far its rows may be off is bounded."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import tokenrank as tr
from tokenrank.markov import censor
from tokenrank.operators import (
    Blocks,
    Dense,
    Lazy,
    Mixture,
    Operator,
    Product,
    QueryKey,
    Restricted,
    Teleport,
    from_query_key,
    from_weights,
    reverse,
)

from . import exact

DTYPES = [torch.float32, torch.float64]
MASKS = ["none", "causal", "upper", "mask", "padding", "padded causal", "bias"]


def query_key(seed: int, n: int, d: int, size: float, mask: str, dtype: torch.dtype, heads: int = 2) -> QueryKey:
    """Logits of about ``size`` at most."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(heads, n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    q, k = ((t * math.sqrt(size / d)).to(dtype) for t in (q, k))
    given: Tensor | None = None
    if mask == "mask":
        given = (torch.rand(heads, n, n, generator=generator) > 0.4) | torch.eye(n, dtype=torch.bool)
    elif mask in ("padding", "padded causal"):
        given = torch.arange(n) < max(1, n - 2)
    elif mask == "bias":
        given = size * torch.randn(heads, n, n, generator=generator, dtype=dtype)
    operator = from_query_key(q, k, 1.0, given, "causal" in mask)
    operator = reverse(from_query_key(q, k, 1.0, None, True)) if mask == "upper" else operator
    assert isinstance(operator, QueryKey)
    return operator


def derived(a: QueryKey, n: int) -> list[Operator]:
    w = torch.tensor([0.25, 0.75], dtype=torch.float64)
    even = torch.full((2, n), 1 / n, dtype=torch.float64)
    chains = [
        a,
        Mixture(a, w),
        Teleport(a, 0.9, even),
        Lazy(a, 0.5),
        Product([a, a]),
        Dense(a.to_dense(), a.structure),
        Blocks(a.reshape(2, 1), torch.arange(2 * n).reshape(2, n)),
    ]
    if n > 2 and a.structure == "full" and a.mask is None and a.bias is None:
        chains += [Restricted(Mixture(a, w), torch.arange(n - 1)), censor(a, torch.arange(n - 1))]
    if a.mask is None and a.bias is None:
        chains += [reverse(a), reverse(Mixture(a, w)), reverse(Product([a, a]))]
    return chains


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([0.0, 1.0, 30.0, 1e3, 1e5]),
    st.sampled_from(MASKS),
    st.sampled_from(DTYPES),
)
def test_a_step_keeps_mass(seed: int, n: int, d: int, size: float, mask: str, dtype: torch.dtype) -> None:
    """Sums of Aᵀx are those of x, of one sign or of two, and A·1 is 1."""
    generator = torch.Generator().manual_seed(seed)
    for operator in derived(query_key(seed, n, d, size, mask, dtype), n):
        shape = (*operator.batch, operator.num_tokens)
        small = 16 * math.sqrt(operator.num_tokens) * torch.finfo(dtype).eps
        x = torch.rand(*shape, generator=generator, dtype=torch.float64)
        x = (x / x.sum(-1, keepdim=True)).to(dtype)
        y = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        y = y / y.abs().sum(-1, keepdim=True)
        for v in (x, y):
            moved = operator.T @ v
            assert (moved.double().sum(-1) - v.double().sum(-1)).abs().max() <= small, type(operator).__name__
        assert (operator @ torch.ones(shape, dtype=dtype) - 1).abs().max() <= small, type(operator).__name__


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_one_token(dtype: torch.dtype, size: float, direction: tr.chain.core.Direction) -> None:
    """Its softmax is one, however large its logit."""
    chain = tr.AttentionChain.from_qk(*(math.sqrt(size) * torch.ones(2, 3, 1, 5, dtype=dtype)).unbind(0))
    values = chain.bounce(0, n=3, direction=direction).values
    assert (values - 1).abs().max() <= 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
def test_a_censored_step(size: float) -> None:
    chain = tr.AttentionChain.from_operator(query_key(3, 12, 4, size, "none", torch.float32)).teleport(0.9)
    kept = chain.restrict([0, 2, 3, 7, 11], how="censor")
    assert (kept.bounce([0, 1], n=4).values.double().sum(-1) - 1).abs().max() <= 1e-6


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 7),
    st.integers(1, 6),
    st.sampled_from([0.1, 3.0, 30.0, 500.0, 1e4]),
    st.sampled_from(["none", "causal", "mask", "padding", "bias"]),
    st.sampled_from(DTYPES),
)
def test_the_bound_of_rows_bounds(seed: int, n: int, d: int, size: float, mask: str, dtype: torch.dtype) -> None:
    """Rows, as products take them, against sixty digits; nor is the bound of ordinary chains far off."""
    operator = query_key(seed, n, d, size, mask, dtype, heads=1)
    given = operator.mask[0] if operator.mask is not None and operator.mask.ndim > 2 else operator.mask
    if operator.bias is not None:
        given = torch.where(operator.bias[0] > -math.inf, 0.0, -math.inf).expand(n, n)
    a = exact.softmax(exact.logits(operator.q[0], operator.k[0], 1.0, given, operator.is_causal))
    units = torch.eye(n, dtype=dtype)[None]
    for precision in {dtype, torch.float64}:
        bound = float(operator.row_error(precision))
        assert 0 < bound <= 2
        x = units.to(precision)
        rounding = 4 * n * torch.finfo(precision).eps  # of the product itself
        for rows in (operator.matmul(x)[0], operator.rmatmul(x)[0].mT, operator.rows(0, n, precision)[0]):
            assert exact.row_distance(rows, a) <= bound + rounding


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize(("n", "d", "size"), [(8, 4, 1.0), (8, 16, 4.0), (24, 32, 10.0)])
def test_the_bound_of_rows_is_no_more_than_a_thousand_times_the_truth(
    n: int, d: int, size: float, dtype: torch.dtype
) -> None:
    ratios = []
    for seed in range(3):
        operator = query_key(seed, n, d, size, "none", dtype, heads=1)
        a = exact.softmax(exact.logits(operator.q[0], operator.k[0], 1.0))
        found = operator.rmatmul(torch.eye(n, dtype=dtype)[None])[0].mT
        ratios.append(float(operator.row_error(dtype)) / exact.row_distance(found, a))
    assert min(ratios) >= 1
    assert sorted(ratios)[1] <= 1000


def test_stored_weights_are_what_they_are() -> None:
    a = torch.rand(3, 5, 5, dtype=torch.float64)
    operator = from_weights(a / a.sum(-1, keepdim=True))
    assert operator.source == "stored weights"
    assert torch.equal(operator.row_error(), torch.zeros(3, dtype=torch.float64))
    assert float(operator.row_error(torch.float32).max()) < 1e-5
    single = Dense(operator.weights.float())
    assert torch.equal(single.row_error(torch.float64), torch.zeros(3, dtype=torch.float64))
    exactly = single.to_dense(torch.float64)
    off = (single.weights.double() - exactly).abs().sum(-1).amax(-1)
    assert (single.row_error() >= off).all()


@pytest.mark.parametrize("mask", MASKS)
def test_every_kind_has_a_bound_and_a_source(mask: str) -> None:
    for operator in derived(query_key(1, 6, 3, 3.0, mask, torch.float32), 6):
        stored = isinstance(operator, Dense)
        assert operator.source == ("stored weights" if stored else "queries and keys")
        for dtype in DTYPES:
            bound = operator.row_error(dtype)
            assert bound.shape == operator.batch
            assert bound.dtype == torch.float64
            assert (bound == 0).all() == (stored and dtype == torch.float64)
            assert (bound <= 2).all()
        dense, wide = operator.to_dense(), operator.to_dense(torch.float64)
        assert (
            (dense.double() - wide)
            .abs()
            .sum(-1)
            .amax(-1)
            .le(operator.row_error() + operator.row_error(wide.dtype))
            .all()
        )


def test_a_part_of_a_batch_has_its_own_bound() -> None:
    """One wild head does not spoil the bound of the others."""
    q, k = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    q[1] *= 1000
    operator = from_query_key(q, k, None, None, False)
    bounds = operator.row_error()
    assert bounds[1] > 50 * bounds[0]
    assert torch.equal(operator.index(0).row_error(), bounds[0])
