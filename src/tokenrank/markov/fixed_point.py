"""x = α Aᵀ x + b: power iteration, then Anderson acceleration where contraction is slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]

POWER_STEPS = 4  # plain steps before the contraction is judged
SLOW = 0.7  # contraction of the ℓ1 residual from which acceleration pays
MEMORY = 5  # previous steps that acceleration combines
PATIENCE = 12  # steps without progress at the rounding floor before giving up on this precision


@dataclass(frozen=True)
class FixedPoint:
    """x (h, N), its last step ‖x − previous‖₁ (h,), applies, and whether acceleration was used."""

    x: Tensor
    step: Tensor
    applies: int
    accelerated: bool


def solve(step: Apply, x: Tensor, tolerance: Tensor, max_applies: int) -> FixedPoint:
    """Iterate ``x ← step(x)`` for all heads until ‖step(x) − x‖₁ ≤ tolerance (h,).

    ``step`` maps (h, N) to (h, N) and is affine with ℓ1 contraction at most one, so that
    the returned ``step(x)`` is at least as good as the x whose residual is known. Anderson's
    mixing (type II, window ``MEMORY``) is a Krylov method here: the map is affine. Stops early
    where rounding stops progress.
    """
    floor = torch.clamp(tolerance, min=64 * torch.finfo(x.dtype).eps)
    history: list[tuple[Tensor, Tensor]] = []
    best_x, best = x, torch.full_like(tolerance, torch.inf)
    previous = best
    accelerated, stale, applies = False, 0, 0
    while applies < max_applies:
        image = step(x)
        applies += 1
        residual = image - x
        size = residual.abs().sum(-1)
        better = size < best
        stale = 0 if bool((size < 0.7 * best).any()) else stale + 1
        best_x = torch.where(better[:, None], image, best_x)
        best = torch.where(better, size, best)
        if bool((best <= tolerance).all()) or (stale >= PATIENCE and bool((best <= floor).all())):
            break
        if not accelerated and applies >= POWER_STEPS:
            accelerated = bool(((size > SLOW * previous) & (best > tolerance)).any())
        previous = size
        history = [*history, (x, residual)][-MEMORY - 1 :]
        x = _anderson(history) if accelerated and len(history) > 1 else image
    return FixedPoint(best_x, best, applies, accelerated)


def _anderson(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The combination of past iterates whose residual is smallest in ℓ2, one step on."""
    x, residual = history[-1]
    dx = torch.stack([b[0] - a[0] for a, b in pairwise(history)], -1)
    dr = torch.stack([b[1] - a[1] for a, b in pairwise(history)], -1)
    q, r = torch.linalg.qr(dr)
    rtol = 100 * torch.finfo(x.dtype).eps
    weights = torch.linalg.pinv(r, rtol=rtol) @ (q.mT @ residual[..., None])
    return x + residual - ((dx + dr) @ weights)[..., 0]
