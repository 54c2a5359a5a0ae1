"""The Perron vector of an irreducible killed walk: inverse iteration where it fits, Krylov spaces beyond."""

from __future__ import annotations

import torch
from torch import Tensor

from .engine.krylov import KrylovSpace
from .killed import Killed

DIRECT = 256  # tokens up to which a few eliminations cost no more than iterating
STUBBORN = 1536  # and up to which they are worth while for heads that do not converge
STEPS = 50  # inverse iterations; under ten are usual
PATIENCE = 3  # of them without progress
DIMENSION, CHECK = 48, 12  # of a Krylov space, and applies between looks at it
ROUNDING = 8 * torch.finfo(torch.float64).eps


def perron(killed: Killed, tol: float, max_applies: int) -> tuple[Tensor, int, str]:
    """Left Perron vector of irreducible Q, (h, N) with sum one; applies spent and the method.

    Up to ``DIRECT`` tokens by Noda's inverse iteration. Beyond by restarted Arnoldi, stopped at the residual ``tol``;
    heads of up to ``STUBBORN`` tokens that do not get there go on with Noda's iteration.
    """
    if killed.operator.num_tokens <= DIRECT:
        x, steps = noda(killed.dense(), killed.uniform())
        return x, steps, "inverse iteration"
    x, residual, applies = arnoldi(killed, tol, max_applies)
    left = (residual > tol).nonzero()[:, 0]
    if not len(left) or killed.operator.num_tokens > STUBBORN:
        return x, applies, "arnoldi"
    most = 0
    for head in left.split(1):  # one dense inverse at a time
        x[head], steps = noda(killed.index(head).dense(), killed.uniform()[head])
        most = max(most, steps)
    return x, applies + most, "inverse iteration"


def noda(q: Tensor, x: Tensor) -> tuple[Tensor, int]:
    """Left Perron vector of irreducible Q (h, N, N) from x > 0 (h, N), to rounding; steps taken.

    Solve (λI − Qᵀ) y = x with λ = max_i (Qᵀx)_i/x_i, and go on from y. λ never falls below the Perron root, so that
    the matrix is an M-matrix, y is positive and λ comes down monotonically, in the end quadratically. Periodic chains
    are no exception. The largest row sum bounds the root as well, and λ at the beginning, where a uniform x says
    little. Zero rows and columns of Q stay zero.

    Source: Noda, "Note on the computation of the maximal eigenvalue of a non-negative irreducible matrix" (1971);
    Elsner, "Inverse iteration for calculating the spectral radius of a non-negative irreducible matrix" (1976).
    """
    best, least = x.clone(), torch.full_like(x[:, 0], torch.inf)
    idle = torch.zeros_like(least, dtype=torch.int64)
    shift = q.sum(-1).amax(-1, keepdim=True) * (1 + ROUNDING)
    active = torch.arange(len(x), device=x.device)
    eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
    step = 0
    while step < STEPS:
        step += 1
        image = (x[:, None] @ q)[:, 0]
        theta = image.sum(-1, keepdim=True)
        residual = (image - theta * x).abs().sum(-1)
        better = residual < least[active]
        best[active] = torch.where(better[:, None], x, best[active])
        top = torch.where(x > 0, image / x, 0.0).amax(-1, keepdim=True) * (1 + ROUNDING)
        progress = (residual < 0.5 * least[active]) | (top < 0.999 * shift)[:, 0]
        idle[active] = torch.where(progress, 0, idle[active] + 1)
        least[active] = torch.minimum(residual, least[active])
        going = (least[active] > ROUNDING * theta[:, 0]) & (idle[active] < PATIENCE)
        if not bool(going.any()):
            break
        active, x, q = active[going], x[going], q[going]
        shift = torch.minimum(shift, top)[going]
        y, _ = torch.linalg.solve_ex(shift[..., None] * eye - q.mT, x[..., None])
        y = y[..., 0] * y[..., 0].sum(-1, keepdim=True).sign()  # next to the root rounding may flip the sign
        y = (y / y.sum(-1, keepdim=True)).clamp(min=0)
        # entries lost to rounding are those that a step brings back
        y = torch.where((y > 0) | (x <= 0), y, (y[:, None] @ q)[:, 0] / shift)
        y = y / y.sum(-1, keepdim=True)
        x = torch.where(torch.isfinite(y).all(-1, keepdim=True), y, x)
    return best, step


def arnoldi(killed: Killed, tol: float, max_applies: int) -> tuple[Tensor, Tensor, int]:
    """Left Perron vectors (h, N) of Q by restarted Arnoldi on Qᵀ, their residuals ‖vᵀQ − θvᵀ‖₁ and the applies.

    The Perron root is the eigenvalue of the largest real part, also where a ring of others has its modulus. The
    Ritz vector of the largest real part, made non-negative, starts the next space; heads leave as they settle.
    """
    x = killed.uniform()
    residual = torch.full_like(x[:, 0], torch.inf)
    active, part, applies = torch.arange(len(x), device=x.device), killed, 0
    while len(active) and applies < max_applies:
        space = KrylovSpace(x[active][..., None], DIMENSION)
        while len(active) and not space.full and applies < max_applies:
            while not space.full and applies < max_applies:
                space.extend(lambda w, p=part: p.image(w[..., 0])[..., None])  # type: ignore[misc]
                applies += 1
                if space.dimension % CHECK == 0:
                    break
            trial = _rightmost(space)
            trial = torch.where(part.alive, trial, 0.0).clamp(min=0)
            trial = trial / trial.sum(-1, keepdim=True)
            image = part.image(trial)
            applies += 1
            theta = image.sum(-1, keepdim=True)
            size = (image - theta * trial).abs().sum(-1).nan_to_num(nan=torch.inf)
            better = size < residual[active]
            x[active] = torch.where(better[:, None], trial, x[active])
            residual[active] = torch.minimum(size, residual[active])
            unsettled = residual[active] > tol
            if not bool(unsettled.all()):
                active, space = active[unsettled], space.select(unsettled)
                part = killed.index(active)
    return x, residual, applies


def _rightmost(space: KrylovSpace) -> Tensor:
    """Real part of the Ritz vector of the largest real part, its sum positive, (h, N)."""
    m = space.dimension
    values, vectors = torch.linalg.eig(space.projection[:, :m])
    place = values.real.argmax(-1)
    chosen = vectors.gather(-1, place[:, None, None].expand(-1, m, 1))[..., 0].real
    x = (chosen[:, None] @ space.basis.mT[:, :m])[:, 0]
    return x * x.sum(-1, keepdim=True).sign()
