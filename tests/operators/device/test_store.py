"""Chains in half precision: how far off their products are, whatever the chain, the vector and the width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokenrank.benchmark.heads import synthetic_heads
from tokenrank.operators import Dense, Operator, from_query_key
from tokenrank.operators.device.halves import LARGEST, factors, half_product, split
from tokenrank.operators.device.store import SCALE, HalfStore

U = 2.0**-11  # of float16


def heads(n: int) -> Operator:
    """Gaussian, local and clustered, (12, n, n)."""
    q, k = synthetic_heads(n)
    return from_query_key(q, k, None, None, False)


def distributions(n: int, kind: str) -> Tensor:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(12, n, 3, generator=g)
    if kind == "peaked":
        x = x.pow(60)
    if kind == "one token":
        x = torch.nn.functional.one_hot(torch.randint(n, (12, 3), generator=g), n).mT.float()
    return x / x.sum(-2, keepdim=True)


@pytest.mark.parametrize("kind", ["even", "peaked", "one token"])
@pytest.mark.parametrize("n", [256, 257])
def test_products_are_off_by_the_rounding_of_entries(n: int, kind: str) -> None:
    operator, x, live = heads(n), distributions(n, kind), torch.arange(12) != 5
    exact, store = operator.to_dense(torch.float64), HalfStore(operator)
    for transposed in (True, False):
        expected = (exact.mT if transposed else exact) @ x.double()
        error = (store.product(x, live, transposed) - expected).abs()
        # rounded entries of rows that are then divided by their sums: twice u of each row
        allowed = 2.2 * U * expected + 1e-7 * expected.sum(-2, keepdim=True)
        assert (error <= allowed)[live].all()
        assert not store.product(x, live, transposed)[5].any()


def test_rows_remain_distributions() -> None:
    operator = heads(200)
    ones, live = torch.ones(12, 200, 1), torch.ones(12, dtype=torch.bool)
    store = HalfStore(operator)
    assert (store.product(ones, live, False) - 1).abs().max() < 1e-6
    x = distributions(200, "even")
    assert (store.product(x, live, True).sum(-2) - 1).abs().max() < 1e-6


def test_small_entries_and_rows_of_zeros() -> None:
    weights = torch.tensor([[1 - 1e-7, 1e-7, 3e-12], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])[None]
    store = HalfStore(Dense(weights))
    x, live = torch.tensor([[[0.0], [1.0], [0.0]]]), torch.tensor([True])
    y = store.product(x, live, False)[0, :, 0]
    assert torch.allclose(y, torch.tensor([1e-7, 0.5, 0.0]), rtol=U, atol=0.0)
    assert store.weights[0, 0, 2] / SCALE <= 1.1e-11
    assert torch.isfinite(store.product(torch.ones(1, 3, 1), live, True)).all()


def test_two_bytes_an_entry_and_rows_where_tensor_cores_want_them() -> None:
    store = HalfStore(heads(257))
    assert store.weights.untyped_storage().nbytes() == 12 * 257 * 264 * 2
    assert store.weights.stride(-2) % 8 == 0


def test_a_vector_is_split_without_loss() -> None:
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, 50, 5, generator=g) * torch.logspace(-20, 10, 5)
    by = factors(x)
    parts = split(x / by)
    assert parts.shape == (2, 16, 50)
    assert not parts[:, 10:].any()
    found = (parts[:, :5].float() + parts[:, 5:10].float()).mT * by
    assert ((found - x).abs() <= 2.0**-22 * x.abs() + 2.0**-25 * by).all()
    assert (x / by).abs().max() <= LARGEST * 1.001
    assert not split(torch.zeros(1, 4, 1) / factors(torch.zeros(1, 4, 1))).any()


def test_products_of_halves_are_those_of_their_values() -> None:
    g = torch.Generator().manual_seed(3)
    for dtype in (torch.float16, torch.bfloat16):
        a, b = torch.randn(2, 7, 40, generator=g).to(dtype), torch.randn(2, 40, 9, generator=g).to(dtype)
        found = half_product(a, b)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), a.double() @ b.double(), rtol=0, atol=1e-5)
