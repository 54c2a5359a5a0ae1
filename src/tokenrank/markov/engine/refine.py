"""Iterative refinement: answers in double precision from a solver that works in the precision of the chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ChainError
from . import constants
from .krylov import Apply, gmres, largest_entry

Solve = Callable[[Tensor, int], tuple[Tensor, int]]  # what is missing (h, N, c) and applies left → change, applies


@dataclass(frozen=True)
class Refined:
    """An answer x and what it is off by.

    Attributes:
        x: (h, N, c) in float64; of every column the best one seen.
        left: its residual, (h, N, c): what the equation leaves over.
        size: that in the norm, (h, c).
        applies: attention applications spent, those of the first answer included.
    """

    x: Tensor
    left: Tensor
    size: Tensor
    applies: int


def refine(
    first: tuple[Tensor, int],
    solve: Solve,
    residual: Callable[[Tensor], Tensor],
    settled: Callable[[Refined], Tensor],
    max_applies: int,
    norm: Callable[[Tensor], Tensor],
    accept: Callable[[Tensor], Tensor] = lambda x: x,
) -> Refined:
    """Improve an answer until it is good enough or no better than half of the one before.

    Args:
        first: an answer (h, N, c) in float64, and the applies that it took.
        solve: what answers for a residual as right-hand side; heads that are done have none.
        residual: x → what it leaves over, in float64; one apply.
        settled: whether heads are good enough, bool (h,).
        max_applies: attention applications allowed. One more round needs two.
        norm: (h, N, c) → (h, c).
        accept: what a sum of answers has to be made first, such as non-negative.

    Residuals are computed in float64, so that the answer gets the digits that the solver, working in single precision
    on a right-hand side scaled to one, adds each time: Wilkinson, "Rounding errors in algebraic processes" (1963).
    """
    trial, applies = first
    # an answer without a finite residual is never the best: zero stands for it, of which nothing is known
    endless = torch.full_like(trial, torch.inf)
    best = Refined(torch.zeros_like(trial), endless, endless[:, 0], applies)
    while True:
        left = residual(trial)
        applies += 1
        size = norm(left)
        better = size < best.size
        progress = (size < 0.5 * best.size).any(-1)
        best = Refined(
            torch.where(better[:, None], trial, best.x),
            torch.where(better[:, None], left, best.left),
            torch.where(better, size, best.size),
            applies,
        )
        done = settled(best) | ~progress
        if bool(done.all()) or applies + 2 > max_applies:
            return best
        change, spent = solve(best.left.masked_fill(done[:, None, None], 0.0), max(1, max_applies - applies - 1))
        trial = accept(best.x + change)
        applies += spent


def by_gmres(apply_for: Callable[[Tensor], Apply], dtype: torch.dtype, wanted: float) -> Solve:
    """Solve d = M d + r by block GMRES in a precision, to a residual of ``wanted``, relative to the columns of r.

    ``apply_for`` as in ``gmres``; r is scaled to entries of one, so that the precision is enough to solve for it.
    """

    def solve(missing: Tensor, max_applies: int) -> tuple[Tensor, int]:
        scale = missing.abs().amax(-2, keepdim=True).clamp(min=constants.TINY)
        tolerance = missing.new_full(missing.shape[:1], max(wanted, 100 * torch.finfo(dtype).eps)).to(dtype)
        d, _, spent = gmres(apply_for, (missing / scale).to(dtype), tolerance, max_applies, largest_entry)
        return scale * d.double(), spent

    return solve


def checked_effort(tol: float, max_applies: int) -> None:
    """Raise ChainError unless there is something to be reached and something to spend."""
    if not tol > 0:
        raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-8")
    if max_applies < 2:
        raise ChainError(f"max_applies = {max_applies!r}, expected at least 2: one step and one to judge it by")
