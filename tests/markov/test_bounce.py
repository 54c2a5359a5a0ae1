"""n bounces are the n-th power of the matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.operators import oracles
from tokenrank.markov import bounces
from tokenrank.operators import Operator, from_query_key, from_weights, reverse

from .oracles import gth

N = 12


def bounce(operator: Operator, start: torch.Tensor, n: int) -> torch.Tensor:
    return torch.stack(list(bounces(operator, start, n)))


def make(kind: str, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, torch.Tensor]:
    q, k = 2 * torch.randn(2, *batch, N, 4, dtype=dtype)
    mask = torch.arange(N) < 10 if kind == "padded" else None
    dense = oracles.attention(q, k, mask=mask, is_causal=kind == "causal")
    if kind == "weights":
        weights = dense.to(dtype)
        return from_weights(weights), oracles.rows_to_one(weights)
    return from_query_key(q, k, None, mask, kind == "causal"), dense


@pytest.mark.parametrize("batch", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize(
    ("kind", "direction"),
    [
        ("weights", "forward"),
        ("weights", "backward"),
        ("queries and keys", "forward"),
        ("queries and keys", "backward"),
        ("causal", "forward"),
        ("causal", "backward"),
        ("padded", "forward"),  # padding is attended to by nobody: there is no reversed chain
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_against_matrix_powers(
    batch: tuple[int, ...], kind: str, dtype: torch.dtype, tolerance: float, direction: str
) -> None:
    operator, dense = make(kind, batch, dtype)
    if direction == "backward":
        operator, dense = reverse(operator), oracles.reverse(dense)
    start = torch.rand(*batch, N, dtype=dtype)
    start = start / start.sum(-1, keepdim=True)
    path = bounce(operator, start, 7)
    assert path.shape == (8, *batch, N)
    assert path.dtype == dtype
    for n in range(8):
        expected = (start.double()[..., None, :] @ torch.linalg.matrix_power(dense, n))[..., 0, :]
        assert (path[n] - expected).abs().max() <= tolerance


def test_no_bounce_is_the_start() -> None:
    operator, _ = make("weights", (2,), torch.float32)
    start = torch.softmax(torch.randn(2, N), -1)
    assert torch.equal(bounce(operator, start, 0), start[None])


def test_one_bounce_is_a_row_and_backwards_a_column() -> None:
    operator, dense = make("weights", (), torch.float64)
    one = torch.eye(N, dtype=torch.float64)[4]
    assert (bounce(operator, one, 1)[1] - dense[4]).abs().max() < 1e-15
    backward = bounce(reverse(operator), one, 1)[1]
    assert (backward - dense[:, 4] / dense[:, 4].sum()).abs().max() < 1e-15


def test_mass_stays_one_over_many_bounces() -> None:
    operator, _ = make("queries and keys", (3,), torch.float32)
    path = bounce(operator, torch.full((3, N), 1 / N), 200)
    assert (path.sum(-1) - 1).abs().max() < 1e-4


def test_limit_is_the_stationary_distribution() -> None:
    weights = torch.randn(N, N, dtype=torch.float64).softmax(-1)
    path = bounce(from_weights(weights), torch.eye(N, dtype=torch.float64)[0], 100)
    assert np.abs(path[-1].numpy() - gth(weights.numpy())).sum() < 1e-12


def test_each_chain_rests_after_its_own():
    operator, dense = make("weights", (3,), torch.float64)
    start = torch.eye(N, dtype=torch.float64)[:3]
    *_, last = bounces(operator, start, 5, torch.tensor([0, 2, 5]))
    for head, n in enumerate((0, 2, 5)):
        expected = start[head] @ torch.linalg.matrix_power(dense[head], n)
        assert (last[head] - expected).abs().max() < 1e-14
