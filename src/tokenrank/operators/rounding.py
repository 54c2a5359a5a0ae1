"""What rounding does to the entries of a chain: bounds of |log Â_ij − log A_ij|, proved and cheap.

With u half the eps of a format, a sum of n products is off by at most n u Σ |a_m b_m| (to first order; a margin covers
the rest), whatever the order in which it is taken. Nothing here looks at N × N numbers.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS, QUERIES = "stored weights", "queries and keys"

MARGIN = 1.01  # of the terms of second order: n u stays below 0.01 for all n that fit into memory
# units in the last place that the exponential of a kernel may be off by (fused kernels take a quick one of floats)
EXPONENTIAL = {torch.float64: 2, torch.float32: 20}


def sources(*parts: str) -> str:
    """What a chain made from several is made from: of queries and keys as soon as one of them is."""
    return QUERIES if QUERIES in parts else WEIGHTS


def half_eps(dtype: torch.dtype) -> float:
    """u: what rounding to ``dtype`` may change of a number, relatively."""
    return torch.finfo(dtype).eps / 2


def narrowing(stored: torch.dtype, dtype: torch.dtype) -> float:
    """What converting from ``stored`` to ``dtype`` may change, relatively: u, or nothing where it is no narrower."""
    return half_eps(dtype) if torch.promote_types(stored, dtype) != dtype else 0.0


def summed(terms: int, dtype: torch.dtype) -> float:
    """What a sum of so many products, all of one sign, may be off by of itself, and a factor on either side of it.

    n u / (1 − n u) whatever the order of the sum (Higham, sections 3.1 and 4.2).
    """
    return MARGIN * (terms + 2) * half_eps(dtype)


def few(count: int, log: Tensor) -> Tensor:
    """What a few operations on logarithms in float64, and a sum of ``count`` numbers, may be off by, (*batch,).

    Args:
        count: terms of the sum.
        log: the logarithms, (*batch, N), N may be zero; −∞ stays what it is.
    """
    size = F.pad(torch.where(log.isfinite(), log, 0.0).abs(), (0, 1)).amax(-1)
    return MARGIN * half_eps(torch.float64) * (count + 16 + 8 * size)


def stored(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Of weights (*batch, N, M) in memory that are applied in ``dtype``, (*batch,).

    The chain is that of the rows divided by their exact sums. In double precision it is applied as such, and weights
    stored in double precision are within rounding of it: zero. In single precision rows are taken as they are.
    """
    batch = weights.shape[:-2]
    if dtype == torch.float64:
        return torch.zeros(batch, dtype=torch.float64, device=weights.device)
    if dtype == weights.dtype:
        return weights.sum(-1, dtype=torch.float64).log().abs().amax(-1)
    size = MARGIN * (weights.shape[-1] + 2) * half_eps(dtype)  # entries are rounded, summed and divided
    return torch.full(batch, size, dtype=torch.float64, device=weights.device)


def largest_products(q: Tensor, k: Tensor) -> Tensor:
    """A bound of max_ij Σ_m |q_im k_jm|, (*batch,) in float64, in O(N d); q, k (*batch, N, d).

    By Cauchy and Schwarz, or coordinate by coordinate where that says more.
    """
    q, k = q.abs().double(), k.abs().double()
    by_length = q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1)
    by_coordinate = (q @ k.amax(-2)[..., None])[..., 0].amax(-1)
    return MARGIN * torch.minimum(by_length, by_coordinate)


def largest_products_by_length(q: Tensor, k: Tensor) -> Tensor:
    """The same by Cauchy and Schwarz alone, in one pass without copies in double precision: for a device."""
    longest = []
    for t in (q, k):
        dtype = torch.promote_types(t.dtype, torch.float32)
        longest.append(torch.linalg.vector_norm(t, dim=-1, dtype=dtype).amax(-1).double())
    return MARGIN * longest[0] * longest[1]  # which covers what a norm of fewer than 10⁴ numbers is off by


def exponentials(size: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Of exp(s_ij − shift) as fused kernels take it, relatively and up to a factor that a row has in common, (*batch,).

    Args:
        size: the most that Σ_m |q_im k_jm| · scale and the absolute value of what is added to it are together.
        width: d, terms of a product; what is added may be one more.
        dtype: what it is computed in, from numbers of that precision.
    """
    u = half_eps(dtype)
    # d + 1 products, their scaling, what is added as a quotient by the scale; the shift, which may be twice as large;
    # what a logarithm is added to, and that
    return MARGIN * ((width + 10) * u * size + 2 * EXPONENTIAL[dtype] * u)
