"""Numbers in half precision: products of them in single precision, and vectors as high and low parts."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
LARGEST = 2.0**14  # of what is split: sums of two such numbers are below the largest float16
SMALLEST = 1e-30  # a column is not scaled up beyond: its factor stays finite
SIDE = 8  # rows and columns that tensor cores take: leading dimensions are multiples


def half_product(a: Tensor, b: Tensor) -> Tensor:
    """a b in float32 for a (h, m, k) and b (h, k, n) of one half precision; products are exact, sums in float32.

    On CUDA one call (from torch 2.8 on; later on ROCm), not run in the tests. Elsewhere both are widened.
    """
    if a.device.type == "cuda" and _widens(a.device, a.dtype):
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


@cache
def _widens(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a product of halves can leave in single precision, tried once on a device."""
    try:
        for heads in (1, 2):  # one matrix is another call of cuBLAS than several
            ones = torch.ones(heads, SIDE, SIDE, dtype=dtype, device=device)
            torch.bmm(ones, ones, out_dtype=torch.float32)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, RuntimeError):  # no such argument; no such kernel
        return False
    return True


def factors(x: Tensor) -> Tensor:
    """What columns of x (h, N, c) are divided by so that none exceeds ``LARGEST``: (h, 1, c) in float32."""
    return torch.linalg.vector_norm(x, torch.inf, -2, keepdim=True).mul_(1 / LARGEST).clamp_(min=SMALLEST)


def split(x: Tensor) -> Tensor:
    """High and low parts of x (h, N, c) in float16 as rows, (h, 2 c up to a multiple of ``SIDE``, N).

    Their sum is x to 2⁻²² of itself or 2⁻²⁵, whichever is more; x at most ``LARGEST``. Rows that fill up are zero.
    """
    h, n, c = x.shape
    parts = x.new_zeros(h, -(-2 * c // SIDE) * SIDE, n, dtype=torch.float16)
    high, low = parts[:, :c], parts[:, c : 2 * c]
    high.copy_(x.mT)
    low.copy_(x.mT - high)
    return parts
