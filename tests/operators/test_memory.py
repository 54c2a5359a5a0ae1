"""Matrix-free means it: nothing of size N × N is ever created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tokenrank.markov import lambda2, stationary
from tokenrank.markov.engine import constants
from tokenrank.operators import Operator, from_query_key, reverse

N, D = 8192, 32
FEW = 160 * N  # a block of 128 columns and a little more; N × N is fifty times that


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any tensor created in the block has."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                # an expanded tensor takes the memory of its storage only
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.elements = max(self.elements, min(leaf.numel(), held))
        return out


def largest(call: Callable[[], object]) -> int:
    with LargestTensor() as seen:
        call()
    return seen.elements


def operator(n: int = N, dtype: torch.dtype = torch.float32, **options: Any) -> Operator:
    q, k = torch.randn(2, 1, n, D, dtype=dtype)
    arguments = {"scale": None, "mask": None, "is_causal": False} | options
    return from_query_key(q, k, **arguments)


def test_the_fallback_would_be_seen() -> None:
    """Values of another width than the keys: PyTorch's CPU attention materialises the weights."""
    q, k, v = torch.randn(1, 1, 512, D), torch.randn(1, 1, 512, D), torch.randn(1, 1, 512, 3)
    assert largest(lambda: F.scaled_dot_product_attention(q, k, v)) >= 512 * 512


@pytest.mark.parametrize("columns", [1, D, 100])
def test_matmul(columns: int) -> None:
    a, x = operator(), torch.randn(1, N, columns)
    assert largest(lambda: a.matmul(x)) <= FEW


def test_rmatmul_and_its_normalisers() -> None:
    a, x = operator(), torch.randn(1, N, 1)
    assert largest(lambda: a.rmatmul(x)) <= FEW


@pytest.mark.parametrize(
    "options",
    [{"is_causal": True}, {"mask": torch.arange(4096) < 4000}, {"mask": torch.arange(4096) < 4000, "is_causal": True}],
    ids=["causal", "padded", "padded causal"],
)
def test_causal_and_padded(options: dict[str, Any]) -> None:
    """The normalisers of padded chains are taken in blocks of rows."""
    n = 4096
    a, x = operator(n, **options), torch.randn(1, n, 1)
    assert largest(lambda: (a.matmul(x), a.rmatmul(x), a.column_sums(), a.diagonal())) <= n * n / 8


def test_double_precision() -> None:
    n = 2048
    a, x = operator(n), torch.randn(1, n, 1, dtype=torch.float64)
    assert largest(lambda: (a.matmul(x), a.rmatmul(x))) <= 160 * n


def test_leading_dimensions() -> None:
    n = 2048
    q, k = torch.randn(2, 2, 1, 2, n, D)
    a, x = from_query_key(q, k, None, None, False), torch.randn(2, 1, 2, n, 1)
    assert largest(lambda: (a.matmul(x), a.rmatmul(x))) <= 4 * 160 * n


def test_stationary_and_lambda2_above_the_dense_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the basis of a Krylov space, 128 vectors and one block more; not for N × N."""
    monkeypatch.setattr(constants, "DENSE_BYTES", 0)
    n = 2304
    a = operator(n)
    jump = torch.full((1, n), 1 / n, dtype=torch.float64)
    assert largest(lambda: stationary(a, 0.9, jump, 1e-6, 100)) <= 160 * n
    assert largest(lambda: stationary(reverse(a), 0.9, jump, 1e-6, 100)) <= 160 * n
    assert largest(lambda: lambda2(a)) <= 160 * n
