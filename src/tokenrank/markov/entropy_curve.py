"""The von Neumann entropy of Aⁿ against n, and where its knee is."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator

FLAT = 1e-9  # nats; a curve that falls by less has no knee


def entropy_curve(moduli: Tensor, limit: int, tail: Tensor | None = None, tail_count: Tensor | None = None) -> Tensor:
    """H(n) = −Σ p_i log p_i with p_i = |λ_i|ⁿ / Σ_j |λ_j|ⁿ, in nats, for n = 0 … limit: (h, limit + 1).

    Args:
        moduli: |λ_i|, (h, m), the largest of them 1.
        limit: the last n.
        tail, tail_count: (h,) each: further eigenvalues of one modulus and how many, not necessarily whole.

    Source: Moon et al., "Visualizing structure and transitions in high-dimensional biological data" (PHATE, 2019).
    There the operator is nearly symmetric and its singular values are taken; attention is not, and the singular
    values of A are not those that decay with n, so eigenvalues are taken here.
    """
    count = torch.ones_like(moduli)
    if tail is not None and tail_count is not None:
        moduli, count = torch.cat([moduli, tail[:, None]], -1), torch.cat([count, tail_count[:, None]], -1)
    n = torch.arange(limit + 1, dtype=moduli.dtype, device=moduli.device)[:, None]
    power = moduli[:, None] ** n  # 0⁰ = 1: nothing has decayed yet
    total = (count[:, None] * power).sum(-1)
    weighted = (count[:, None] * torch.special.xlogy(power, power)).sum(-1)
    return (total.log() - weighted / total).clamp(min=0)


def knee(curve: Tensor) -> Tensor:
    """The n at which two straight lines fit H(1), H(2), … best, (h,) int64, for ``curve`` (h, limit + 1) from H(0).

    Least squares on n = 1 … b and on b … limit, b from 2 to limit − 1, the first b of the smallest sum of squares. A
    curve that stays where it is has no knee: 1.
    """
    y = curve[:, 1:]
    m = y.shape[-1]
    first = _line_errors(y)
    last = _line_errors(y.flip(-1)).flip(-1)
    best = (first + last)[:, 1 : m - 1].argmin(-1) + 2
    flat = y.amax(-1) - y.amin(-1) <= FLAT
    return torch.where(flat, 1, best)


def _line_errors(y: Tensor) -> Tensor:
    """Sums of squares that a least-squares line leaves on y[0 … b], for every b, (h, m)."""
    m = y.shape[-1]
    number = torch.arange(1, m + 1, dtype=y.dtype, device=y.device)
    x = number - 1
    y = y - y.mean(-1, keepdim=True)  # less to cancel where the curve is almost flat
    sum_x, sum_y, sum_xx = x.cumsum(0), y.cumsum(-1), (x * x).cumsum(0)
    sxx = sum_xx - sum_x**2 / number  # 0, 1/2, 2, …
    sxy = (x * y).cumsum(-1) - sum_x * sum_y / number
    syy = (y * y).cumsum(-1) - sum_y**2 / number
    return (syy - sxy**2 / sxx.clamp(min=0.5)).clamp(min=0)


def knee_of_part(moduli: Tensor, squares: Tensor, tokens: int, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The knee from the leading eigenvalues alone.

    Args:
        moduli: the m largest |λ_i|, (h, m), descending.
        squares: ‖A‖²_F ≥ Σ|λ_i|² (Schur), (h,).
        tokens: N; N − m eigenvalues are not known, none larger than the last known one.
        limit: the last n.

    Returns:
        The knee (h,), whether it is uncertain (h,), and the curve (h, limit + 1).

    The unknown ones have Σ|λ|² at most what is left of ‖A‖²_F. Nine spectra from what that allows: none of it, and
    quarters of it up to all, spread evenly or over as few eigenvalues as possible. The answer is the median of their
    knees, uncertain where they differ; that they enclose the true knee is not proved. The curve is the one of half,
    spread evenly.
    """
    rest = tokens - moduli.shape[-1]
    largest = moduli[:, -1]
    left = (squares - (moduli**2).sum(-1)).clamp(min=0)
    every = torch.full_like(left, rest)
    curves = {(0.0, "none"): entropy_curve(moduli, limit)}
    for share in (0.25, 0.5, 0.75, 1.0):
        even = torch.minimum(largest, (share * left / rest).sqrt())
        few = torch.minimum(share * left / largest.square().clamp(min=torch.finfo(left.dtype).tiny), every)
        curves[share, "even"] = entropy_curve(moduli, limit, even, every)
        curves[share, "few"] = entropy_curve(moduli, limit, largest, few)
    knees = torch.stack([knee(curve) for curve in curves.values()])
    return knees.median(0).values, (knees != knees[0]).any(0), curves[0.5, "even"]


def squared_norm(operator: Operator) -> Tensor:
    """‖A‖²_F of every head, (*batch), a block of rows at a time: O(N²) work, no N × N memory."""
    total = torch.zeros(operator.batch, dtype=torch.float64, device=operator.device)
    for start, stop in operator.blocks():
        total += operator.rows(start, stop).double().square().sum((-2, -1))
    return total
