"""d = M d + r for many heads: restarted GMRES, heads leaving as they settle."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .krylov import Apply, KrylovSpace

DIMENSION = 48  # of a Krylov space before it is restarted
CHECK = 6  # applies between looks at the residual


def gmres(
    apply_for: Callable[[Tensor], Apply], r: Tensor, tolerance: Tensor, max_applies: int
) -> tuple[Tensor, Tensor, int]:
    """Solve d = M d + r.

    Args:
        apply_for: indices of heads (k,) → M of these heads, (k, N, 1) → (k, N, 1).
        r: right-hand sides, (h, N).
        tolerance: ℓ1 residual wanted, (h,).
        max_applies: attention applications allowed.

    Returns:
        d (h, N), the ℓ1 residual ‖r + M d − d‖₁ (h,) as the recurrence sees it, and the applies.

    Source: Saad and Schultz (1986); the norm minimised is ℓ2, the one tested ℓ1.
    """
    d, size = torch.zeros_like(r), r.abs().sum(-1)
    active = (size > tolerance).nonzero()[:, 0]
    applies = 0
    while len(active) and applies < max_applies:
        start, apply = r[active], apply_for(active)
        space, norm = KrylovSpace(start[..., None], DIMENSION), torch.linalg.vector_norm(start, dim=-1)
        # the first basis vector is ± the normalised residual
        norm = norm * torch.sign((space.basis[..., 0] * start).sum(-1))
        while len(active):
            while not space.full and applies < max_applies:
                space.extend(apply)
                applies += 1
                if space.dimension % CHECK == 0:
                    break
            change, residual = _least_squares(space, norm)
            left = residual.abs().sum(-1)
            settled = left <= tolerance[active]
            full = space.full or applies >= max_applies
            leaving = torch.ones_like(settled) if full else settled
            if full or bool(settled.sum() * 2 >= len(active)):
                out = active[leaving]
                d[out] += change[leaving]
                r[out], size[out] = residual[leaving], left[leaving]
                active, norm, space = active[~leaving], norm[~leaving], space.select(~leaving)
                if len(active):
                    apply = apply_for(active)
        active = (size > tolerance).nonzero()[:, 0]
    return d, size, applies


def _least_squares(space: KrylovSpace, norm: Tensor) -> tuple[Tensor, Tensor]:
    """The d of the space with the smallest ‖r + M d − d‖₂, (h, N), and that residual, (h, N)."""
    m = space.dimension
    target = torch.zeros_like(space.projection[..., :1])
    target[:, 0, 0] = norm
    system = -space.projection
    system[:, :m] += torch.eye(m, dtype=norm.dtype, device=norm.device)
    y = torch.linalg.lstsq(system, target).solution
    rows = space.basis.mT
    return (y.mT @ rows[:, :m])[:, 0], ((target - system @ y).mT @ rows)[:, 0]
