"""The nine heads are those of the study that the figures in the design notes come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from . import heads, oracles

# |λ2| as published with the study, to the digits printed there
MODULI = dict(zip(heads.NAMES, [0.08, 0.66, 0.9992, 0.936, 0.950, 0.972, 0.993, 0.033, 0.908], strict=True))


@pytest.mark.parametrize("name", heads.NAMES)
def test_moduli(name: str) -> None:
    a = heads.nine_heads()[name]
    assert np.allclose(a.sum(1), 1, atol=1e-14)
    assert oracles.second_modulus(a) == pytest.approx(MODULI[name], abs=6e-3 if MODULI[name] < 0.1 else 6e-4 * 10)


def test_as_query_key() -> None:
    """The matrix-free operators are the same chains."""
    weights = heads.stacked()
    assert (heads.as_query_key(weights).to_dense() - weights).abs().max() < 1e-13


def test_gth_against_elimination() -> None:
    a = heads.nine_heads()["peaky random"]
    jump = np.full(heads.N, 1 / heads.N)
    assert np.abs(oracles.pagerank(a, 0.99) - oracles.linear_solve(a, 0.99, jump)).sum() < 1e-12
    pi = oracles.gth(a)
    assert np.abs(pi @ a - pi).sum() < 1e-14


def test_oracle_of_torch_weights_is_double() -> None:
    assert heads.stacked(torch.float32).dtype == torch.float32
    assert heads.stacked().dtype == torch.float64
