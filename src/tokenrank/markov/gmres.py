"""D = M D + R for many heads and several right-hand sides: restarted block GMRES, heads leaving as they settle."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .krylov import Apply, KrylovSpace

DIMENSION = 48  # of a Krylov space of one column before it is restarted
BLOCKS, LARGEST = 24, 256  # blocks of several columns, and the dimension that they may take together
CHECK = 6  # applies between looks at the residual

Norm = Callable[[Tensor], Tensor]


def largest_l1(r: Tensor) -> Tensor:
    """The largest ℓ1 norm over columns, (h, N, b) → (h,)."""
    return r.abs().sum(-2).amax(-1)


def largest_entry(r: Tensor) -> Tensor:
    """The largest modulus, (h, N, b) → (h,)."""
    return r.abs().amax((-2, -1))


def gmres(
    apply_for: Callable[[Tensor], Apply],
    r: Tensor,
    tolerance: Tensor,
    max_applies: int,
    norm: Norm = largest_l1,
) -> tuple[Tensor, Tensor, int]:
    """Solve D = M D + R; all columns share one Krylov space.

    Args:
        apply_for: indices of heads (k,) → M of these heads, (k, N, b) → (k, N, b).
        r: right-hand sides, (h, N, b).
        tolerance: residual wanted in ``norm``, (h,).
        max_applies: attention applications allowed.
        norm: how a residual is measured, (h, N, b) → (h,).

    Returns:
        D (h, N, b), the residual R + M D − D in ``norm`` (h,) as the recurrence sees it, and the applies.

    Source: Saad and Schultz (1986); the norm minimised is ℓ2, whichever is tested.
    """
    r = r.clone()
    d, size = torch.zeros_like(r), norm(r)
    width = r.shape[-1]
    dimension = DIMENSION if width == 1 else max(DIMENSION, min(BLOCKS * width, LARGEST))
    active = (size > tolerance).nonzero()[:, 0]
    applies = 0
    while len(active) and applies < max_applies:
        start, apply = r[active], apply_for(active)
        space = KrylovSpace(start, dimension)
        factor = space.basis.mT @ start  # the first block of the basis spans the residual
        while len(active):
            while not space.full and applies < max_applies:
                space.extend(apply)
                applies += 1
                if space.dimension // width % CHECK == 0:
                    break
            change, residual = _least_squares(space, factor)
            left = norm(residual)
            settled = left <= tolerance[active]
            full = space.full or applies >= max_applies
            leaving = torch.ones_like(settled) if full else settled
            if full or bool(settled.sum() * 2 >= len(active)):
                out = active[leaving]
                d[out] += change[leaving]
                r[out], size[out] = residual[leaving], left[leaving]
                active, factor, space = active[~leaving], factor[~leaving], space.select(~leaving)
                if len(active):
                    apply = apply_for(active)
        active = (size > tolerance).nonzero()[:, 0]
    return d, size, applies


def _least_squares(space: KrylovSpace, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The D of the space with the smallest ‖R + M D − D‖₂, (h, N, b), and that residual, (h, N, b)."""
    m = space.dimension
    target = factor.new_zeros(len(factor), m + space.width, factor.shape[-1])
    target[:, : space.width] = factor
    system = -space.projection
    system[:, :m] += torch.eye(m, dtype=factor.dtype, device=factor.device)
    y = torch.linalg.lstsq(system, target).solution
    rows = space.basis.mT
    return (y.mT @ rows[:, :m]).mT, ((target - system @ y).mT @ rows).mT
