"""Weights as they are stored: within what squares of whole numbers cost, and better than plain numbers would be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.explorer import weights
from tokenrank.operators import Blocks, from_query_key, from_weights


def rows(heads: int, tokens: int, seed: int, sharp: float) -> Tensor:
    logits = torch.randn(heads, tokens, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharp * logits).softmax(-1)


@settings(max_examples=40, deadline=None)
@given(
    heads=st.integers(1, 3),
    tokens=st.integers(1, 30),
    sharp=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    type=st.sampled_from(["uint16", "uint8"]),
    seed=st.integers(0, 999),
)
def test_rows_come_back_within_half_a_step_of_their_roots(heads, tokens, sharp, type, seed):
    exact = rows(heads, tokens, seed, sharp)
    chosen = list(range(heads))[::-1]
    slice = weights.encoded(from_weights(exact), chosen, type)
    assert len(slice) == weights.nbytes(heads, tokens, type)
    step = 1 / np.iinfo(type).max
    for place, head in enumerate(chosen):
        back = weights.decoded(slice, tokens, type, place)
        np.testing.assert_allclose(back.sum(-1).numpy(), 1.0, atol=1e-12)
        # (√p + δ)² with δ at most half a step of the largest root, then divided by the sum
        limit = step * exact[head].sqrt() + step**2
        limit = limit + exact[head] * limit.sum(-1, keepdim=True)
        assert bool(((back - exact[head]).abs() <= 1.01 * limit + 1e-7).all())


def test_what_is_zero_stays_zero():
    q = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    windows = Blocks(from_query_key(q.repeat(2, 1, 1), q.repeat(2, 1, 1), None, None, True).reshape(2, 2),
                     torch.randperm(14, generator=torch.Generator().manual_seed(1)).reshape(2, 7))  # fmt: skip
    slice = weights.encoded(windows, [0, 1], "uint16")
    dense = windows.to_dense(torch.float64)
    for head in range(2):
        back = weights.decoded(slice, 14, "uint16", head)
        assert bool((back[dense[head] == 0] == 0).all())
        np.testing.assert_allclose(back.numpy(), dense[head].numpy(), atol=2e-5)


@pytest.mark.parametrize("sharp", [1.0, 5.0, 20.0])
def test_roots_cost_less_than_plain_numbers(sharp):
    """Why squares are stored: the ℓ1 of a row, which is that of a bounce, is 5 to 35 times smaller at 1,024 tokens."""
    exact = rows(1, 1024, 0, sharp)[0]
    back = weights.decoded(weights.encoded(from_weights(exact[None]), [0], "uint16"), 1024, "uint16", 0)
    largest = exact.amax(-1, keepdim=True)
    plain = (exact / largest * 65535).round() / 65535 * largest
    plain = plain / plain.sum(-1, keepdim=True)
    ours, theirs = (float((one - exact).abs().sum(-1).max()) for one in (back, plain))
    assert ours < 1e-4
    assert 5 * ours < theirs
