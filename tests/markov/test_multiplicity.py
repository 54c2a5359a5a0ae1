"""Eigenvalues that occur many times: a Krylov space sees as many copies as its start has columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenrank.markov import spectrum
from tokenrank.operators import Blocks, Dense, from_query_key


def moduli(a: torch.Tensor, count: int) -> np.ndarray:
    return np.sort(np.abs(np.linalg.eigvals(a.double().numpy())))[::-1][:count]


def windows(count: int, size: int) -> Blocks:
    q, k = torch.randn(2, count, 1, size, 16)
    return Blocks(from_query_key(q, k, None, None, False), torch.randperm(count * size).reshape(count, size))


@pytest.mark.parametrize(("count", "size", "k"), [(25, 12, 30), (25, 27, 30), (25, 12, 8)])
def test_every_window_has_an_eigenvalue_one(count: int, size: int, k: int) -> None:
    """As in a layer of Swin: 300 and 675 tokens, of which no class is large."""
    chain = windows(count, size)
    found = spectrum(chain, k)
    right = moduli(chain.to_dense(torch.float64)[0], int(found.count))
    assert not bool(found.certificate.uncertain)
    assert np.abs(found.values[0, : int(found.count)].abs().numpy() - right).max() < 1e-6


def copies(times: int, size: int) -> torch.Tensor:
    """An irreducible chain: the eigenvalues of B, and those of B / 2 ``times`` − 1 times."""
    b = torch.randn(size, size, dtype=torch.float64).mul(0.3).softmax(-1)
    mixed = (torch.eye(times) + torch.full((times, times), 1 / times)).double() / 2
    return torch.kron(mixed, b)


@pytest.mark.parametrize("size", [20, 66])
def test_copies_that_a_start_does_not_see_are_found_or_told(size: int) -> None:
    """1/2, seven times, and smaller ones; 160 tokens get all eigenvalues, 528 a flag."""
    a = copies(8, size)
    found = spectrum(Dense(a), 12)
    right = moduli(a, int(found.count))
    assert right[1:8] == pytest.approx(np.full(7, 0.5))
    good = np.abs(found.values[: int(found.count)].abs().numpy() - right).max() < 1e-6
    assert good or bool(found.certificate.uncertain)
    assert good or len(a) > 512
