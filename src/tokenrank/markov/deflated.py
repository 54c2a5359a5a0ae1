"""(I − A + 1uᵀ) X = R with u uniform: a regular system with the slow modes of the chain and no π in it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import Operator
from .gmres import gmres, largest_entry
from .krylov import Apply


def deflated_solve(operator: Operator, rhs: Tensor, tol: float, max_applies: int) -> tuple[Tensor, Tensor, int]:
    """X = (A − 1uᵀ) X + R by block GMRES in the chain's precision, refined with residuals in float64.

    Args:
        operator: A, (h, N, N), one recurrent class each.
        rhs: R, (h, N, c) in float64.
        tol: ‖R − (I − A + 1uᵀ)X‖∞ wanted, relative to the largest entry of the column of R.
        max_applies: attention applications allowed.

    Returns:
        X (h, N, c) in float64, the largest relative residual (h,), and the applies.
    """
    work = operator.dtype
    size = rhs.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    x, missing, applies = torch.zeros_like(rhs), rhs, 0
    best = torch.full_like(rhs[:, 0, 0], torch.inf)
    while True:
        scale = missing.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        wanted = torch.full_like(best, max(0.5 * tol, 100 * torch.finfo(work).eps)).to(work)
        d, _, spent = gmres(
            lambda heads: _deflated(operator, heads), (missing / scale).to(work), wanted,
            max(1, max_applies - applies - 1), largest_entry,
        )  # fmt: skip
        trial = x + scale * d.double()
        left = rhs - trial + _centred(operator.matmul(trial), trial)
        applies += spent + 1
        residual = (left.abs() / size).amax((-2, -1))
        better = residual < best
        progress = residual < 0.5 * best
        x = torch.where(better[:, None, None], trial, x)
        best = torch.minimum(residual, best)
        done = (best <= tol) | ~progress
        if bool(done.all()) or applies + 2 > max_applies:
            return x, best, applies
        missing = torch.where(better[:, None, None], left, missing).masked_fill(done[:, None, None], 0.0)


def _deflated(operator: Operator, heads: Tensor) -> Apply:
    part = operator if len(heads) == operator.shape[0] else operator.index(heads)
    return lambda x: _centred(part.matmul(x), x)


def _centred(image: Tensor, x: Tensor) -> Tensor:
    return image - x.mean(-2, keepdim=True)
