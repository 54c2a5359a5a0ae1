"""A map of a large block is taken matrix-free: equal to dense float64, one product a bounce, little memory."""

from __future__ import annotations

import pytest
import torch

from benchmarks import concept_cost
from tokenrank.operators import Pooled

SIDE = 42  # more tokens than are kept as a matrix


@pytest.mark.parametrize(("dtype", "n"), [(torch.float32, 2), (torch.bfloat16, 1), (torch.float16, 2)])
def test_equal_to_dense_weights_in_double(dtype: torch.dtype, n: int):
    q, k = concept_cost.records(dtype, heads=2, side=SIDE)
    exact = concept_cost.dense(q, k, n, torch.float64)
    found = concept_cost.ours(q, k, n).double()
    assert float((found - exact).abs().max() / exact.max()) <= 1e-5


@pytest.mark.parametrize("n", [1, 3])
def test_a_bounce_is_one_product_whatever_the_number_of_words(n: int, monkeypatch: pytest.MonkeyPatch):
    count = 0

    def counted(product):
        def call(self, x):
            nonlocal count
            count += 1
            return product(self, x)

        return call

    monkeypatch.setattr(Pooled, "matmul", counted(Pooled.matmul))
    monkeypatch.setattr(Pooled, "rmatmul", counted(Pooled.rmatmul))
    monkeypatch.setattr(Pooled, "to_dense", None)
    q, k = concept_cost.records(torch.float32, heads=1, side=SIDE)
    concept_cost.ours(q, k, n)
    assert count == n + 2  # what padding takes, the image of the measure, and the bounces


@pytest.mark.slow
def test_a_block_of_flux_fits_beside_its_records():
    """In half precision, which is widened beside what is given; float32 takes less (``benchmarks/diffusion.py``)."""
    assert concept_cost.peak_apart("ours", "bfloat16", 1) <= concept_cost.GOAL_GB
