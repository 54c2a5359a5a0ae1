"""x = α Aᵀ x + b by iterating: power steps, GMRES for what contracts slowly, refinement in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...operators import Dense, Operator
from . import constants
from .batching import image
from .krylov import Apply, gmres
from .refine import refine


@dataclass(frozen=True)
class FixedPoint:
    """What was found for a group of heads.

    Attributes:
        values: a distribution close to the fixed point, (h, N) in float64: the image of another one, x.
        residual: α ‖values − x‖₁, (h,): at least ‖α Aᵀ values + (1 − α) v − values‖₁, but for rounding.
        applies: attention applications spent.
        method: "power" or "gmres".
    """

    values: Tensor
    residual: Tensor
    applies: int
    method: str


def iterate(
    operator: Operator, alpha: float, jump: Tensor, target: Tensor, max_applies: int, start: Tensor | None = None
) -> FixedPoint:
    """π = α Aᵀ π + (1 − α) v.

    Args:
        operator: (h, N, N).
        alpha: probability of following attention, 0 … 1.
        jump: v, (h, N), distributions in float64.
        target: ‖step(x) − x‖₁ wanted, (h,).
        max_applies: attention applications allowed.
        start: where the walk begins, (h, N); v by default. With α = 1 the answer may depend on it.

    Steps are taken in single precision or in that of a chain that is never built, residuals in float64; what is
    missing is solved for with that residual as right-hand side.
    """
    solver, rest, first = _Solver(operator, alpha, target), (1 - alpha) * jump, jump if start is None else start
    x, spent = solver.solve(rest, first, torch.ones_like(target), max(1, max_applies - 1))
    answer = refine(
        (distribution(x[..., None]), spent),
        solver.correct,
        residual=lambda x: alpha * image(operator, x) + rest[..., None] - x,
        settled=lambda answer: answer.size[:, 0] <= target,
        max_applies=max_applies,
        norm=lambda left: left.abs().sum(-2),
        accept=distribution,
    )
    # an image under the chain is one contraction closer than the vector it came from
    values = torch.where(torch.isfinite(answer.size), (answer.x + answer.left)[..., 0], first)
    return FixedPoint(values, alpha * answer.size[:, 0], answer.applies, "gmres" if solver.accelerated else "power")


def distribution(x: Tensor) -> Tensor:
    """The columns of x (h, N, c) without what is negative, summing to one."""
    x = x.clamp(min=0)
    return x / x.sum(-2, keepdim=True)


class _Solver:
    """x = α Aᵀ x + b in a working precision: power steps, and GMRES for what contracts slowly."""

    def __init__(self, operator: Operator, alpha: float, target: Tensor) -> None:
        self.operator, self.alpha, self.target = _working(operator), alpha, target
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


def _working(operator: Operator) -> Operator:
    """The operator that steps are taken with: on a CPU weights in single precision, half the bytes to read."""
    if isinstance(operator, Dense) and operator.device.type == "cpu" and operator.dtype == torch.float64:
        return Dense(operator.weights.float(), operator.structure)
    return operator


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
