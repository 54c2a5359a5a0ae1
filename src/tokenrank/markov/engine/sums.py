"""Products with a matrix whose rounding is bounded, for what a residual in float64 proves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HALF_EPS = torch.finfo(torch.float64).eps / 2
MARGIN = 1.01  # of the terms of second order


def rounding(n: int) -> float:
    """What a + Σ_j w_j x_j over n terms, in float64 and in any order, is off by, relative to |a| + Σ_j |w_j x_j|.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1.
    """
    return MARGIN * (n + 8) * HALF_EPS


def rounding_in_blocks(n: int) -> float:
    """The same where the sum is taken by ``in_blocks``: in blocks, and then over them."""
    width = block_width(n)
    return MARGIN * (width + -(-n // width) + 8) * HALF_EPS


def block_width(n: int) -> int:
    """About √n, a multiple of eight: the longest chain of additions is then shortest."""
    return max(8, 8 * round(math.sqrt(n) / 8))


def row_sums(a: Tensor) -> Tensor:
    """A 1 for (m, n), (m, 1), by halves: every number takes part in log₂ n additions; see ``row_sums_off``."""
    while a.shape[-1] > 1:
        half, odd = divmod(a.shape[-1], 2)
        halves = a[:, :half] + a[:, half : 2 * half]
        if odd:
            halves[:, 0] += a[:, -1]
        a = halves
    return a


def row_sums_off(n: int) -> float:
    """What ``row_sums`` of n numbers ≥ 0 is off by, relatively."""
    return MARGIN * 2 * math.ceil(math.log2(max(n, 2))) * HALF_EPS


def in_blocks(a: Tensor, x: Tensor) -> Tensor:
    """A x for one matrix (m, n) and columns (n, c), each sum taken in blocks of about √n terms.

    However the blocks are summed, no number takes part in more than about 2 √n additions, where a plain product
    promises no better than n: at 1,024 tokens what a residual cannot see is thirteen times smaller.
    """
    n = a.shape[-1]
    width = block_width(n)
    whole = n - n % width
    # xᵀ Aᵀ and not A x: rows of x then lie together in every block, which costs no more than one product
    blocks = x[:whole].mT.unflatten(1, (-1, width)).transpose(0, 1) @ a[:, :whole].unflatten(1, (-1, width)).permute(
        1, 2, 0
    )
    summed = blocks.sum(0).mT
    return summed if whole == n else summed + a[:, whole:] @ x[whole:]


def deviation(square: Tensor, mean: Tensor, hides: float | Tensor) -> Tensor:
    """√(A x² − (A x)²) from A x² and A x: how far x is from its mean one step ahead, no less than it is.

    ``hides`` is the relative rounding of both, and what rows of A are off one.
    """
    spread = square - mean.square()
    return (spread.clamp(min=0) + 4 * hides * (square + mean.square())).sqrt() * MARGIN
