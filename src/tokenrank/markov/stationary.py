"""Stationary distribution: TokenRank, with its certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..operators import Dense, Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import head_groups
from .engine.krylov import Apply, gmres
from .engine.refine import refine
from .engine.triangular import solve_triangular
from .result import Result

ROUNDING = 8 * torch.finfo(torch.float64).eps  # ℓ1 error of a residual computed in float64, about


@dataclass(frozen=True, repr=False)
class Stationary(Result):
    """π (*batch, N) in float64 and what it is worth."""

    AXES = ("token",)
    OVER_TOKENS = (("values", -1),)

    values: Tensor
    certificate: Certificate


def stationary(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Stationary:
    """π = α Aᵀ π + (1 − α) v, the PageRank vector of the chain; α = 1 for none.

    Args:
        operator: (*batch, N, N).
        alpha: probability of following attention, 0 … 1.
        jump: v, (*batch, N), a distribution; also the start of the iteration.
        tol: with α < 1 a bound of ‖π − exact‖₁, proved by
            ‖x − π‖₁ ≤ α/(1 − α) · ‖x − previous‖₁; with α = 1 of the residual ‖Aᵀπ − π‖₁.
        max_applies: attention applications allowed.

    Triangular chains are solved by substitution. Others are iterated in the operator's own
    precision, by power steps and then GMRES where contraction is slow. The residual is then
    computed in float64, and what is missing is solved for with that residual as right-hand side
    (iterative refinement), until the bound holds.
    """
    # materialised in single precision, rows of a product of operators would not sum to one any more
    precision = operator.dtype if isinstance(operator, Dense) else torch.float64
    jump = jump.double()
    flat = jump.expand(*operator.shape[:-1]).reshape(-1, operator.num_tokens)
    parts = []
    for heads, group in head_groups(operator, precision):
        if group.structure != "full" and _solvable(group, alpha):
            parts.append(_exact(group, alpha, flat[heads]))
        else:
            parts.append(_iterate(group, alpha, flat[heads], tol, max_applies))
    values = torch.cat([p[0] for p in parts]).reshape(operator.shape[:-1])
    residual = torch.cat([p[1] for p in parts]).reshape(operator.batch)
    bound = (residual + ROUNDING) / (1 - alpha) if alpha < 1 else None
    converged = (residual if bound is None else bound) <= tol
    applies = max(p[2] for p in parts)
    order = ("power", "gmres", "substitution")
    method = max((p[3] for p in parts), key=order.index)
    return Stationary(values, Certificate(converged, residual, bound, applies, method))


Part = tuple[Tensor, Tensor, int, str]  # values (h, N), residual (h,), applies, method


def _iterate(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Part:
    # an image under the chain is one contraction closer than the vector it came from
    target = max(tol * (1 - alpha) - ROUNDING, 0) / alpha if 0 < alpha < 1 else tol
    solver, rest = _Solver(operator, alpha, target), (1 - alpha) * jump
    first, spent = solver.solve(rest, jump, torch.ones_like(jump[:, 0]), max(1, max_applies - 1))
    answer = refine(
        (_distribution(first[..., None]), spent),
        solver.correct,
        residual=lambda x: alpha * (operator.T @ x) + rest[..., None] - x,
        settled=lambda answer: answer.size[:, 0] <= target,
        max_applies=max_applies,
        norm=lambda left: left.abs().sum(-2),
        accept=_distribution,
    )
    image = torch.where(torch.isfinite(answer.size), (answer.x + answer.left)[..., 0], jump)
    return image, alpha * answer.size[:, 0], answer.applies, "gmres" if solver.accelerated else "power"


def _distribution(x: Tensor) -> Tensor:
    x = x.clamp(min=0)
    return x / x.sum(-2, keepdim=True)


class _Solver:
    """x = α Aᵀ x + b in the operator's own precision: power steps, and GMRES for what contracts slowly."""

    def __init__(self, operator: Operator, alpha: float, target: float) -> None:
        self.operator, self.alpha, self.target = operator, alpha, target
        self.accelerated = False

    def correct(self, missing: Tensor, max_applies: int) -> tuple[Tensor, int]:
        """For a residual (h, N, 1), scaled to one so that the working precision is enough to solve for it."""
        missing = missing[..., 0] - missing.mean(-2)
        scale = missing.abs().sum(-1).clamp(min=constants.TINY)
        rhs = missing / scale[:, None]
        change, spent = self.solve(rhs, rhs, scale, max_applies)
        return (scale[:, None] * change)[..., None], spent

    def solve(self, b: Tensor, guess: Tensor, scale: Tensor, max_applies: int) -> tuple[Tensor, int]:
        """x (h, N) in float64 and the applies; ``scale`` (h,) is what x will be multiplied by."""
        work = self.operator.dtype
        wanted = (0.5 * self.target / scale).clamp(min=16 * torch.finfo(work).eps).to(work)
        start = _power(partial(self._step, b.to(work)), guess.to(work), wanted, max_applies)
        x, spent = start.x.double() + start.residual.double(), start.applies
        if bool((start.residual.abs().sum(-1) > wanted).any()) and max_applies > spent:
            d, _, more = gmres(self._part, start.residual[..., None], wanted, max_applies - spent)
            x, spent, self.accelerated = start.x.double() + d[..., 0], spent + more, True
        return x, spent

    def _step(self, b: Tensor, x: Tensor) -> Tensor:
        return self.alpha * (self.operator.T @ x) + b

    def _part(self, heads: Tensor) -> Apply:
        """x ↦ α Aᵀ x for some of the heads."""
        operator, alpha = self.operator, self.alpha
        part_only, on_cpu = len(heads) < operator.shape[0], operator.device.type == "cpu"
        if isinstance(operator, Dense) and part_only and on_cpu and operator.weights[0].nbytes >= constants.VIEWS_BYTES:
            # a copy of the heads that are left costs as much as several applies
            views = [operator.weights[head] for head in heads.tolist()]
            return lambda x: alpha * torch.stack([v.mT @ w for v, w in zip(x, views, strict=True)]).mT
        part = operator if len(heads) == operator.shape[0] else operator.index(heads)
        return lambda x: alpha * (part.T @ x)


def _exact(operator: Operator, alpha: float, jump: Tensor) -> Part:
    if alpha < 1:

        def pivots(rows: Tensor, part: slice) -> Tensor:
            return 1 - alpha * rows[..., part].diagonal(dim1=-2, dim2=-1)

        x = solve_triangular(operator, pivots, (1 - alpha) * jump, alpha, transposed=True)
        x = x / x.sum(-1, keepdim=True)
    else:
        x = torch.zeros_like(jump)
        x[:, 0 if operator.structure == "lower" else -1] = 1.0
    image = alpha * (operator.T @ x) + (1 - alpha) * jump
    return x, (image - x).abs().sum(-1), 2 if alpha < 1 else 1, "substitution"


def _solvable(operator: Operator, alpha: float) -> bool:
    """With teleport always; without, if the token at the end of the walk is the only absorbing one."""
    if alpha < 1:
        return True
    diagonal = operator.diagonal()
    others = diagonal[:, 1:] if operator.structure == "lower" else diagonal[:, :-1]
    return bool((others < 1).all())


@dataclass(frozen=True)
class _PowerSteps:
    """The last x (h, N), step(x) − x (h, N) and the applies spent."""

    x: Tensor
    residual: Tensor
    applies: int


def _power(step: Callable[[Tensor], Tensor], x: Tensor, tolerance: Tensor, max_applies: int) -> _PowerSteps:
    """Iterate until ‖step(x) − x‖₁ ≤ tolerance (h,) for every head, or some head turns out slow."""
    previous = torch.full_like(tolerance, torch.inf)
    applies = 0
    while True:
        residual = step(x) - x
        applies += 1
        size = residual.abs().sum(-1)
        open_heads = size > tolerance
        slow = open_heads & (size > constants.POWER_SLOW * previous)
        if (
            not bool(open_heads.any())
            or applies >= max_applies
            or (applies >= constants.POWER_FIRST and bool(slow.any()))
        ):
            return _PowerSteps(x, residual, applies)
        previous, x = size, x + residual
