"""Foreground of a map: one rule, for tensors and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenrank.chain.foreground import foreground, is_constant
from tokenrank.errors import InputError

MAPS = st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(lambda v: len(set(v)) > 1)


@given(MAPS, st.sampled_from([0.1, 0.5, 0.6, 0.95, 1.0]))
def test_the_fewest_values_that_hold_the_share(numbers: list[int], share: float) -> None:
    values = np.array(numbers, dtype=np.float64)
    mask = foreground(values, share)
    order = np.argsort(-values, kind="stable")
    count = int(mask.sum())
    assert mask[order[:count]].all()  # the largest, of equal ones the first
    total = values.sum() * share * (1 - 1e-12)
    assert values[mask].sum() >= total
    assert values[order[: count - 1]].sum() < total or count == 1


@given(MAPS, st.sampled_from(["mean", 0.3, 1.0, None]))
def test_arrays_tensors_and_batches_agree(numbers: list[int], rule: Any) -> None:
    values = np.array([numbers, numbers[::-1]], dtype=np.float64)
    whole = foreground(values, rule)
    assert isinstance(whole, np.ndarray)
    assert whole.dtype == bool
    assert torch.equal(foreground(torch.from_numpy(values), rule), torch.from_numpy(whole))
    assert np.array_equal(whole[1], foreground(values[1], rule))
    assert np.array_equal(whole[0], foreground(values[0].reshape(1, -1), rule, axes=2)[0])


def test_exact_shares() -> None:
    """Two equal halves: one of them holds the half, whatever sums round to."""
    assert foreground(np.full(4, 0.1) * [1, 1, 1, 3], 0.5).tolist() == [False, False, False, True]
    assert foreground(torch.tensor([0.5, 0.3, 0.1, 0.1]), 0.4).tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ["mean", 0.6, 1.0])
def test_a_constant_map_has_none(dtype: torch.dtype, rule: Any) -> None:
    values = torch.full((8, 8), 1 / 64, dtype=dtype)
    values *= 1 + torch.finfo(dtype).eps * torch.randint(-2, 3, (8, 8))
    assert bool(is_constant(values, 2))
    assert not foreground(values, rule, 2).any()
    assert not foreground(values.numpy(), rule, 2).any()
    assert foreground(values, None, 2).all()
    assert not foreground(torch.zeros(5), rule).any()


def test_whole_numbers_and_views() -> None:
    assert foreground(np.array([1, 2, 6])).tolist() == [False, False, True]
    assert foreground(np.arange(12.0).reshape(3, 4).T[::-1], 0.3).shape == (4, 3)


@pytest.mark.parametrize("rule", ["median", 0, -0.1, 1.5, True, float("nan"), "0.5"])
def test_other_rules(rule: Any) -> None:
    with pytest.raises(InputError, match=r"rule = .*, expected 'mean', a share of the mass in \(0, 1\], or None"):
        foreground(torch.rand(4), rule)
