"""x = Q x + b of one walk by LU, every entry with a bound, or told that LU is not enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import constants
from .lu import Factor, factor
from .sums import deviation, in_blocks, rounding_in_blocks, row_sums, row_sums_off

REFINEMENTS = 2  # further solves where LU left more than rounding; one is enough where anything is
SAFETY = 1.25  # what is proved bounds so much more than is there, so that its own rounding does not matter


@dataclass(frozen=True)
class ByLU:
    """Answers of h chains.

    Attributes:
        x: (h, N, c); zero off the walking tokens; inf throughout where LU finds I − Q singular.
        left: Qx + b − x, (h, N, c).
        error: e with |x − exact| ≤ e, entry by entry, (h, N, c), of the chain that is applied; inf in columns where
            that was not proved.
        asked: the same of the chain that was asked for.
    """

    x: Tensor
    left: Tensor
    error: Tensor
    asked: Tensor


def solve_by_lu(a: Tensor, alive: Tensor, b: Tensor, entry_error: Tensor | None = None, entering: bool = False) -> ByLU:
    """Solve x = Q x + b, Q = D A D, D = diag(alive).

    Args:
        a: Â (h, N, N) in float64, which stands for A.
        alive: bool (h, N).
        b: (h, N, c), zero off ``alive``.
        entry_error: δ (h,), a bound of |log Â_ij − log A_ij|; none by default.
        entering: whether all columns of b but the first are probabilities of steps, with these errors.

    Beside Â the factors of I − Q are kept, and while they are made one such matrix, no more.

    The proof. What x leaves over, with all that rounding can hide, is at most

        s = |Qx + b − x| + γ max(Q|x|, |x|) + |Â1 − 1| |x|,

    the last since rows of the chain sum to one, whatever was rounded. The same factors give e ≈ (5/4) (I − Q)⁻¹ s,
    and if (I − Q) e ≥ s, looked at with the rounding of that product, then |x − exact| ≤ e, since I − Q is an M-matrix:
    its inverse is ≥ 0. Small entries have small errors so, where a bound by norms gives all the same. Of the chain
    that was asked for: (Â − A) x is at most (exp δ − 1) times the standard deviation of x after one step, since both
    rows sum to one, and is added to s; likewise (exp δ − 1) Qe is taken off (I − Q) e.

    Source: Rump, "Verification methods: rigorous results using floating-point arithmetic" (2010), section 10.
    """
    walk = _Walk(a, alive, [_factored(one, inside) for one, inside in zip(a, alive, strict=True)])
    hides = rounding_in_blocks(a.shape[-1])
    unit = hides + row_sums_off(a.shape[-1]) + (torch.stack([row_sums(one) for one in a]) - 1).abs()
    x = walk.solved(b)
    regular = torch.isfinite(x).all(-1).all(-1)[:, None, None]
    x = torch.where(regular, x, 0.0)
    for attempt in range(REFINEMENTS + 1):
        size, onward = x.abs(), walk.onward(x)
        left = b + onward - x
        total = onward if bool((x >= 0).all()) else walk.onward(size)
        hidden = unit * torch.maximum(total, size)
        more = (left.abs() > hidden).any(-1).any(-1)[:, None, None] & regular
        if attempt == REFINEMENTS or not bool(more.any()):
            break
        x = torch.where(more, x + walk.solved(left), x)
    room = left.abs() + hidden
    error = asked = walk.proved(room, hides)
    if entry_error is not None and bool((entry_error > 0).any()):
        wrong = torch.expm1(entry_error)[:, None, None]
        lost = a.shape[-1] * constants.TINY  # of steps that underflow
        ahead = torch.cat([torch.zeros_like(b[..., :1]), b[..., 1:]], -1) if entering else torch.zeros_like(b)
        room = room + wrong * deviation(walk.onward(x.square()) + ahead, onward + ahead, hides)
        room = room + alive[..., None] * lost * size.amax(-2, keepdim=True).clamp(min=1)
        asked = walk.proved(room, hides + wrong, lost)
    x, left, error, asked = (torch.where(regular, v, torch.inf) for v in (x, left, error, asked))
    return ByLU(x, left, error, asked)


def _factored(a: Tensor, alive: Tensor) -> Factor:
    """Of I − Q, one head."""
    out = (~alive).nonzero()[:, 0]
    matrix = a.neg().index_fill_(0, out, 0.0).index_fill_(1, out, 0.0)
    matrix.diagonal().add_(1.0)
    return factor(matrix)


@dataclass(frozen=True)
class _Walk:
    """Heads (h, N, N) with their factors: products and solves one by one, everything else for all at once."""

    a: Tensor
    alive: Tensor
    factors: list[Factor]

    def solved(self, b: Tensor) -> Tensor:
        """(I − Q)⁻¹ b, (h, N, c)."""
        return torch.stack([one.solve(rhs) for one, rhs in zip(self.factors, b, strict=True)])

    def onward(self, x: Tensor) -> Tensor:
        """Qx for x (h, N, c) that is zero off ``alive``."""
        image = torch.stack([in_blocks(one, part) for one, part in zip(self.a, x, strict=True)])
        return torch.where(self.alive[..., None], image, 0.0)

    def proved(self, room: Tensor, hides: Tensor | float, lost: float = 0.0) -> Tensor:
        """e with (I − Q) e ≥ room, (h, N, c), inf in columns where that was not proved."""
        error = SAFETY * self.solved(room)
        further = self.onward(error)
        doubt = hides * torch.maximum(error, further) + lost * error.amax(-2, keepdim=True)
        enough = (error >= 0) & (~self.alive[..., None] | (error - further - doubt >= room))
        return torch.where(enough.all(-2, keepdim=True), error, torch.inf)
