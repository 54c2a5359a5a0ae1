"""Quasi-stationary distributions of triangular (causal) chains: by substitution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .engine.triangular import substitute_shifted
from .killed import Killed

STEPS = 100  # of the root search; a dozen is usual
ROUNDING = 4 * torch.finfo(torch.float64).eps
HUGE = 1e100


def secular(killed: Killed) -> tuple[Tensor, int]:
    """Left Perron vector (h, N) of Q for a triangular A and α < 1, and the substitutions spent.

    vᵀQ = θvᵀ with Σv = 1 says v = (θI − α A[S, S]ᵀ)⁻¹ b with b = (1 − α)/N on S, so that θ is the root of

        f(λ) = 1ᵀ (λI − α A[S, S]ᵀ)⁻¹ b = 1,

    which falls from ∞ at the pole α · max A_ii to 0. Newton steps on 1/f (exact for a single pole), each two
    substitutions. With x = (λI − α A[S, S]ᵀ)⁻¹ b one has xᵀQ = λxᵀ + (f − 1) bᵀ, so that every evaluation bounds θ
    from both sides (Collatz–Wielandt): λ + (f − 1) b_i/x_i at its smallest and largest. A step that leaves these
    bounds is replaced by their geometric mean. The unknown is μ = λ − pole, which keeps the digits of pivots next to
    the pole.
    """
    alive, alpha, jump = killed.alive, killed.alpha, killed.jump
    diagonal = killed.operator.diagonal(torch.float64)
    pole = alpha * torch.where(alive, diagonal, 0.0).amax(-1)
    gaps = pole[:, None] - alpha * diagonal
    b = jump * alive.double()
    # the pole's own token contributes jump/μ ≤ f, hence μ ≥ jump at the root
    low = torch.full_like(pole, jump)
    high = torch.maximum(killed.row_sums().amax(-1) - pole, low)
    mu, x = high.clone(), torch.zeros_like(b)
    active, part, spent = torch.arange(len(pole), device=pole.device), killed, 0
    for step in range(STEPS):
        pivots = mu[active, None] + gaps[active]
        trial = substitute_shifted(part.operator, part.alive, pivots, b[active], alpha)
        slope = substitute_shifted(part.operator, part.alive, pivots, trial, alpha).sum(-1)
        spent += 2
        f = trial.sum(-1)
        x[active] = trial
        here, excess = mu[active], f - 1
        finite = torch.isfinite(f)  # where f overflows, λ lies far left of the root
        share = jump / trial
        least = torch.where(part.alive, share, torch.inf).amin(-1)
        most = torch.where(part.alive, share, 0.0).amax(-1)
        sides = here + excess * torch.stack([least, most])
        low[active] = torch.maximum(low[active], torch.where(finite, sides.amin(0), here))
        high[active] = torch.minimum(high[active], torch.where(finite, sides.amax(0), torch.inf))
        newton = here + f * excess / slope
        safe = finite & torch.isfinite(slope) & (newton > low[active]) & (newton < high[active])
        narrow = high[active] - low[active] <= ROUNDING * low[active]
        moved = torch.where(narrow, high[active], low[active].sqrt() * high[active].sqrt())
        moved = torch.where(safe, newton, moved)
        settled = finite & ((excess.abs() <= ROUNDING) | narrow | (moved == here))
        mu[active] = moved
        if bool(settled.all()) or step == STEPS - 1:
            break
        if bool(settled.any()):
            active = active[~settled]
            part = killed.index(active)
    return x / x.sum(-1, keepdim=True), spent


def exact(killed: Killed) -> tuple[Tensor, Tensor, Tensor]:
    """A left Perron vector (h, N), the Perron root (h,) and the tokens that have it, bool (h, N); A triangular, α = 1.

    The eigenvalues of Q are A_ii on S; θ is the largest. The walk only ever moves to tokens nearer to its end, so
    that from the token p of θ on, v_p = 1, v_j (θ − A_jj) = Σ_i v_i A_ij: zero on all tokens that p cannot reach.
    Of several tokens with the same A_ii the one nearest to the end is taken: after it no pivot vanishes.
    """
    operator, alive = killed.operator, killed.alive
    diagonal = torch.where(alive, operator.diagonal(torch.float64), -1.0)
    theta = diagonal.amax(-1)
    tied = diagonal == theta[:, None]
    if operator.structure == "lower":
        place = tied.to(torch.int8).argmax(-1)
    else:
        place = tied.shape[-1] - 1 - tied.flip(-1).to(torch.int8).argmax(-1)
    token = torch.arange(tied.shape[-1], device=place.device)
    after = token < place[:, None] if operator.structure == "lower" else token > place[:, None]
    pivots = torch.where(after, theta[:, None] - diagonal, 1.0)
    start = (token == place[:, None]).double()
    x = substitute_shifted(operator, alive & (after | (start > 0)), pivots, start, 1.0)
    overflowed = (~torch.isfinite(x.sum(-1))).nonzero()[:, 0]
    if len(overflowed):
        part = Killed(operator.index(overflowed), alive[overflowed], 1.0)
        x[overflowed] = _scaled(part, pivots[overflowed], start[overflowed])
    return x / x.sum(-1, keepdim=True), theta, tied


def _scaled(killed: Killed, pivots: Tensor, start: Tensor) -> Tensor:
    """The same vector token by token, scaled down wherever it grows: pivots may be tiny one after the other."""
    n, lower = start.shape[-1], killed.operator.structure == "lower"
    x = start.clone()
    for j in reversed(range(n)) if lower else range(n):
        column = killed.operator.columns(j, j + 1, x.dtype)[..., 0].clone()
        column[:, j] = 0.0
        # in two roots, so that a quotient beyond the range of float64 comes out as a scale and not as inf
        root = pivots[:, j].sqrt()
        flow = (x * column).sum(-1) / root
        shrink = torch.where(flow > HUGE * root, HUGE * root / flow.clamp(min=math.ulp(0.0)), 1.0)
        x = x * shrink[:, None]
        arrived = torch.where(killed.alive[:, j], flow * shrink / root, 0.0)
        x[:, j] = torch.where(start[:, j] > 0, x[:, j], arrived)
        largest = x.amax(-1, keepdim=True)
        x = torch.where(largest > HUGE, x / largest, x)
    return x
