"""The watcher sees what it is trusted to see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.dispatch import Watch

X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: bool((X > 1).any()), "_local_scalar_dense"),
        (lambda: float(X.sum()), "_local_scalar_dense"),
        (lambda: X.sum().item(), "_local_scalar_dense"),
        (X.tolist, "tolist"),
        (X.cpu, "cpu"),
        (lambda: X.to("cpu"), "to cpu"),
        (X.numpy, "numpy"),
        (X.nonzero, "nonzero"),
        (lambda: X[X > 1], "index"),
        (lambda: torch.linalg.eigvals(X[:, :2]), "linalg_eig"),
        (lambda: torch.linalg.cholesky(torch.eye(2)), "_linalg_check_errors"),
        (lambda: torch.tensor([1.0], device="cpu"), "tensor"),
    ],
)
def test_waits_are_seen(call, name):
    with Watch() as seen:
        call()
    assert [wait.split()[0] for wait in seen.waits] == [name.split()[0]], (name, seen.waits)


def test_what_needs_no_look_is_no_wait():
    with Watch(2) as seen:
        torch.where(X > 1, X, 0.0).sum().double()
        X[torch.tensor([0, 1])].index_select(0, torch.tensor([1]))
        torch.linalg.cholesky_ex(torch.eye(2))
    assert not seen.waits
    assert seen.count > 5


def test_attention_without_a_fused_kernel_and_large_double_precision_are_seen():
    q = torch.randn(1, 1, 64, 8)
    with Watch(64) as fused:
        F.scaled_dot_product_attention(q, q, q)
    with Watch(64) as other:
        F.scaled_dot_product_attention(q, q, q[..., :4])
        torch.zeros(2, 64, 64, dtype=torch.float64)
    assert (fused.unfused, fused.widths) == (0, {(8, 8, torch.float32)})
    assert other.unfused == 1
    assert other.squares[torch.float64] == 1
    assert other.float64 == 2 * 64 * 64 * 8
