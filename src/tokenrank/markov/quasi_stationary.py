"""Quasi-stationary distribution: where a walk is that has not yet entered some tokens, attention without its sink."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError, which_chain
from ..operators import Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import told_groups
from .engine.lu import factor
from .engine.triangular import solve_triangular
from .result import Result

ROUNDING = 4 * torch.finfo(torch.float64).eps
NEGLIGIBLE = 1e-300  # entries below are zero, so that ratios of what is left keep their digits
ORDER = ("substitution", "inverse iteration")


@dataclass(frozen=True, repr=False)
class QuasiStationary(Result):
    """Quasi-stationary distribution of every chain, and what it is worth.

    Attributes:
        values: v, float64 (*batch, N), a distribution; positive except on the dropped tokens, where it is zero.
        survival: θ, the Perron root of Q, (*batch): the probability that the walk survives one more step.
        lower, upper: bounds of θ, (*batch), proved up to rounding: the smallest and largest (vᵀQ)_i/v_i
            (Collatz–Wielandt), the upper one no larger than the largest row sum of Q.
        certificate: ``residual`` is ‖vᵀQ − θvᵀ‖₁. No bound of the distance to the exact v follows from it. ``applies``
            are the substitutions or eliminations spent.
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1),)
    LABELS = (
        ("values", "where the walk is before it ends"),
        ("survival", "survives a bounce"),
    )

    values: Tensor
    survival: Tensor
    lower: Tensor
    upper: Tensor
    certificate: Certificate


def quasi_stationary(operator: Operator, drop: Tensor, alpha: float = 0.99, tol: float = 1e-8) -> QuasiStationary:
    """Left Perron vector of the walk that dies when it enters the tokens ``drop``.

    Q = α A[S, S] + (1 − α) 1 v_Sᵀ on the other tokens S, v uniform over all N tokens: a teleport to a dropped token
    kills too. vᵀQ = θvᵀ, v > 0, Σv = 1: a walk that starts with v and is still alive is distributed as v after
    any number of steps, and dies with probability 1 − θ in each. Dropping nothing gives TokenRank and θ = 1.

    Args:
        operator: A, (*batch, N, N).
        drop: bool (N,) or (*batch, N).
        alpha: probability of following attention, 0 … 1 without 1: the teleport makes one class of all tokens, so that
            there is one answer. Without it that of a causal chain would live on the token that attends most to itself.
        tol: ‖vᵀQ − θvᵀ‖₁ that counts as converged.

    Triangular (causal) chains: the root of a secular equation, O(N²) for each of a dozen steps. Others: Noda's inverse
    iteration, O(N³) for each of about six steps, one head at a time.

    Raises:
        ChainError: ``drop`` is no bool tensor of a fitting shape, drops every token of a chain, or alpha or tol are
            out of range.

    Source: Darroch and Seneta, "On quasi-stationary distributions in absorbing discrete-time finite Markov chains"
    (1965). The secular equation is ours.
    """
    alive = _alive(operator, drop)
    if not 0 <= alpha < 1:
        raise ChainError(f"alpha = {alpha!r}, expected a probability from 0 to less than 1, such as 0.99")
    if not tol > 0:
        raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-8")
    few = len(alive) if operator.structure != "full" else 1  # a dense system a head
    parts = []
    for heads, group in told_groups(operator, torch.float64, "quasi-stationary distribution"):
        for some in torch.arange(heads.stop - heads.start, device=operator.device).split(few):
            part = group if len(some) == group.shape[0] else group.index(some)
            parts.append(_judged(_Walk(part, alive[heads][some], float(alpha)), tol))
    fields = {
        name: torch.cat([getattr(p, name) for p in parts]).reshape(operator.batch)
        for name in ("survival", "lower", "upper")
    }
    return QuasiStationary(
        values=torch.cat([p.values for p in parts]).reshape(operator.shape[:-1]),
        **fields,
        certificate=Certificate.joined([p.certificate for p in parts], operator.batch, ORDER),
    )


def _alive(operator: Operator, drop: Tensor) -> Tensor:
    """S, bool (h, N)."""
    n = operator.num_tokens
    if drop.dtype != torch.bool:
        raise ChainError(f"drop is {drop.dtype}, expected bool, True on the tokens that kill the walk")
    if tuple(drop.shape) not in ((n,), tuple(operator.shape[:-1])):
        raise ChainError(f"drop has shape {tuple(drop.shape)}, expected ({n},) or {tuple(operator.shape[:-1])}")
    alive = ~drop.to(operator.device).expand(operator.shape[:-1]).reshape(-1, n)
    empty = (~alive.any(-1)).nonzero()[:, 0]
    if len(empty):
        raise ChainError(
            f"all {n} tokens of {which_chain([int(empty[0])], alive.shape[:1])} are dropped, so that no walk survives; "
            "keep at least one token"
        )
    return alive


@dataclass(frozen=True)
class _Walk:
    """Q = α A[S, S] + (1 − α) 1 v_Sᵀ for heads (h, N, N); vectors are (h, N) in float64 and zero off S."""

    operator: Operator
    alive: Tensor  # S, bool (h, N)
    alpha: float

    @property
    def jump(self) -> float:
        """Probability of teleporting to any one token, (1 − α)/N."""
        return (1 - self.alpha) / self.operator.num_tokens

    def image(self, x: Tensor) -> Tensor:
        """Qᵀ x: where the walk is after one more step, and how much of it is left."""
        stepped = self.alpha * (self.operator.T @ x) + self.jump * x.sum(-1, keepdim=True)
        return torch.where(self.alive, stepped, 0.0)

    def row_sums(self) -> Tensor:
        """Q 1: the probability of surviving a step from every token of S, (h, N); zero off S."""
        inside = self.alive.double()
        kept = self.alpha * (self.operator @ inside) + self.jump * inside.sum(-1, keepdim=True)
        return torch.where(self.alive, kept.clamp(max=1), 0.0)

    def index(self, heads: Tensor) -> _Walk:
        """Some of the heads."""
        return _Walk(self.operator.index(heads), self.alive[heads], self.alpha)

    def dense(self) -> Tensor:
        """Q (h, N, N); rows and columns off S are zero."""
        q = self.alpha * self.operator.to_dense(torch.float64) + self.jump
        return torch.where(self.alive[:, :, None] & self.alive[:, None, :], q, 0.0)


def _secular(walk: _Walk) -> tuple[Tensor, int]:
    """Left Perron vector (h, N) of Q for a triangular A, and the substitutions spent.

    vᵀQ = θvᵀ with Σv = 1 says v = (θI − α A[S, S]ᵀ)⁻¹ b with b = (1 − α)/N on S, so that θ is the root of

        f(λ) = 1ᵀ (λI − α A[S, S]ᵀ)⁻¹ b = 1,

    which falls from ∞ at the pole α · max A_ii to 0. Newton steps on 1/f (exact for a single pole), each two
    substitutions. With x = (λI − α A[S, S]ᵀ)⁻¹ b one has xᵀQ = λxᵀ + (f − 1) bᵀ, so that every evaluation bounds θ
    from both sides (Collatz–Wielandt): λ + (f − 1) b_i/x_i at its smallest and largest. A step that leaves these
    bounds is replaced by their geometric mean. The unknown is μ = λ − pole, which keeps the digits of pivots next to
    the pole.
    """
    alive, jump = walk.alive, walk.jump
    diagonal = walk.alpha * walk.operator.diagonal(torch.float64)
    pole = torch.where(alive, diagonal, 0.0).amax(-1)
    gaps = torch.where(alive, pole[:, None] - diagonal, torch.inf)  # infinite pivots off S
    b = jump * alive.double()
    # the pole's own token contributes jump/μ ≤ f, hence μ ≥ jump at the root
    low = torch.full_like(pole, jump)
    high = torch.maximum(walk.row_sums().amax(-1) - pole, low)
    mu, x = high.clone(), torch.zeros_like(b)
    active, part, spent = torch.arange(len(pole), device=pole.device), walk, 0
    for step in range(constants.QUASI_STEPS):
        pivots = mu[active, None] + gaps[active]
        trial = solve_triangular(part.operator, pivots, b[active], walk.alpha, transposed=True)
        slope = solve_triangular(part.operator, pivots, trial, walk.alpha, transposed=True).sum(-1)
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
        if bool(settled.all()) or step == constants.QUASI_STEPS - 1:
            break
        if bool(settled.any()):
            active = active[~settled]
            part = walk.index(active)
    return x / x.sum(-1, keepdim=True), spent


def _inverse_iteration(q: Tensor, x: Tensor) -> tuple[Tensor, int]:
    """Left Perron vector of irreducible Q (N, N) from x ≥ 0 (N,), positive on S, to rounding; steps taken.

    Solve (λI − Qᵀ) y = x with λ = max_i (Qᵀx)_i/x_i, and go on from y. λ never falls below the Perron root, so that
    the matrix is an M-matrix, y is positive and λ comes down monotonically, in the end quadratically. Periodic chains
    are no exception. The largest row sum bounds the root as well, and λ at the beginning, where a uniform x says
    little. Zero rows and columns of Q stay zero.

    Source: Noda, "Note on the computation of the maximal eigenvalue of a non-negative irreducible matrix" (1971);
    Elsner, "Inverse iteration for calculating the spectral radius of a non-negative irreducible matrix" (1976).
    """
    best, least, idle = x, torch.inf, 0
    shift = float(q.sum(-1).amax()) * (1 + ROUNDING)
    eye = torch.eye(len(q), dtype=q.dtype, device=q.device)
    step = 0
    while step < constants.QUASI_STEPS:
        step += 1
        image = x @ q
        theta = float(image.sum())
        residual = float((image - theta * x).abs().sum())
        top = float(torch.where(x > 0, image / x, 0.0).amax()) * (1 + ROUNDING)
        idle = 0 if residual < 0.5 * least or top < 0.999 * shift else idle + 1
        best, least = (x, residual) if residual < least else (best, least)
        if least <= 2 * ROUNDING * theta or idle == constants.QUASI_PATIENCE:
            break
        shift = min(shift, top)
        y = factor(shift * eye - q).solve_transposed(x[:, None])[:, 0]
        y = y * y.sum().sign()  # next to the root rounding may flip the sign
        y = (y / y.sum()).clamp(min=0)
        # entries lost to rounding are those that a step brings back
        y = torch.where((y > 0) | (x <= 0), y, (y @ q) / shift)
        x = y / y.sum() if bool(torch.isfinite(y).all()) else x
    return best, step


def _judged(walk: _Walk, tol: float) -> QuasiStationary:
    """The answer with its bounds."""
    if walk.operator.structure != "full":
        (x, spent), method = _secular(walk), "substitution"
    else:
        start = walk.alive.double() / walk.alive.sum(-1, keepdim=True)
        found = [_inverse_iteration(q, v) for q, v in zip(walk.dense(), start, strict=True)]
        x, spent, method = torch.stack([v for v, _ in found]), max(steps for _, steps in found), "inverse iteration"
    x = torch.where(x >= NEGLIGIBLE, x, 0.0)
    x = x / x.sum(-1, keepdim=True)
    image = walk.image(x)
    ratio, some = image / x, x > 0
    slack = 4 * x.shape[-1] * torch.finfo(torch.float64).eps
    lower = torch.where(some, ratio, torch.inf).amin(-1) * (1 - slack)
    highest = torch.where(walk.alive, torch.where(some, ratio, torch.inf), 0.0).amax(-1)
    upper = (torch.minimum(highest, walk.row_sums().amax(-1)) * (1 + slack)).clamp(max=1)
    survival = image.sum(-1).clamp(max=1)
    residual = (image - survival[:, None] * x).abs().sum(-1)
    certificate = Certificate(residual <= tol, residual, None, spent + 1, method)
    return QuasiStationary(x, survival, lower, upper, certificate)
