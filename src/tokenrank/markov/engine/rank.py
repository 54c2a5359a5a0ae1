"""TokenRank of a group of heads, π = α Aᵀ π + (1 − α) v with α < 1: which way to solve it, and what is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...operators import Dense, Operator
from . import constants
from .batching import image, image_rounding, weighted_rows
from .elimination import bounded_stationary, stationary_error
from .fixed_point import distribution, iterate
from .lu import solve_once
from .triangular import substituted, substitutes

ORDER = ("power", "gmres", "substitution", "lu", "elimination")
UNIT = torch.finfo(torch.float64).eps / 2


@dataclass(frozen=True)
class Asked:
    """A group of heads and what to solve for.

    Attributes:
        operator: (h, N, N); weights in memory, or a chain that is never built.
        alpha: probability of following attention, 0 … 1 and not 1.
        jump: v, (h, N), distributions in float64.
        row_error: what the rows are off by in float64, (h,); see ``Operator``.
    """

    operator: Operator
    alpha: float
    jump: Tensor
    row_error: Tensor

    def __getitem__(self, heads: Tensor | slice) -> Asked:
        return Asked(self.operator.index(heads), self.alpha, self.jump[heads], self.row_error[heads])

    def step(self, x: Tensor) -> Tensor:
        """α Aᵀ x + (1 − α) v in float64, (h, N)."""
        return self.alpha * image(self.operator, x[..., None])[..., 0] + (1 - self.alpha) * self.jump

    def bound(self, residual: Tensor) -> Tensor:
        """Of ‖step(x) − π‖₁ from α ‖step(x) − x‖₁, (h,): a step contracts by α, and is off by rounding only."""
        wrong = image_rounding(self.operator) + self.alpha * self.row_error
        return proved(residual, wrong, self.alpha, self.operator.num_tokens)


def proved(residual: Tensor, wrong: Tensor, alpha: float, n: int) -> Tensor:
    """A bound of ‖y − π‖₁, (h,), for y with ‖y − step(x)‖₁ ≤ ``wrong`` and α ‖y − x‖₁ = ``residual``.

    (residual + wrong) / (1 − α): with x = y + (x − y), ‖step(x) − π‖ ≤ α ‖x − π‖ and ‖x − π‖ ≤ ‖x − step(x)‖ / (1 − α).
    """
    # rows of stored weights sum to one up to rounding
    apart = 1 - alpha - (n + 2) * UNIT
    return (residual + wrong) / apart if apart > 0 else torch.full_like(residual, torch.inf)


@dataclass(frozen=True)
class Ranked:
    """π (h, N), α ‖step(x) − x‖₁ of the x that it is the step of and the proved bound, (h,), applies and method.

    ``met``: the host has seen that every bound is within the tolerance, and need not ask a device again.
    """

    values: Tensor
    residual: Tensor
    bound: Tensor
    applies: int
    method: str
    met: bool = False

    @classmethod
    def joined(cls, parts: Sequence[Ranked]) -> Ranked:
        """Of heads that were answered one after the other."""
        values, residual, bound = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("values", "residual", "bound")
        )
        return cls(
            values, residual, bound, max(p.applies for p in parts), max((p.method for p in parts), key=ORDER.index)
        )

    def improved(self, heads: Tensor, part: Ranked) -> Ranked:
        """The answer of some heads replaced where more is proved of the other."""
        better = part.bound < self.bound[heads]
        heads = heads[better]
        values, residual, bound = (
            getattr(self, name).index_copy(0, heads, getattr(part, name)[better])
            for name in ("values", "residual", "bound")
        )
        applies = self.applies + part.applies
        return Ranked(values, residual, bound, applies, part.method if len(heads) else self.method)


def ranked(asked: Asked, tol: float, max_applies: int) -> Ranked:
    """TokenRank of every head of a group, to a proved ℓ1 error of ``tol`` if that can be had."""
    operator = asked.operator
    n = operator.num_tokens
    in_cache = isinstance(operator, Dense) and operator.device.type == "cpu"
    if substitutes(operator):
        answer = _substituted(asked)
    elif in_cache and n <= constants.RANK_DIRECT:
        answer = _by_lu(asked)
    else:
        # what rounding leaves of the tolerance
        floor = asked.bound(torch.zeros_like(asked.row_error))
        target = (tol - floor).clamp(min=0) * (1 - asked.alpha) / max(asked.alpha, constants.TINY)
        direct = in_cache and n <= constants.RANK_STUBBORN
        budget = min(max_applies, constants.RANK_PATIENCE) if direct else max_applies
        found = iterate(operator, asked.alpha, asked.jump, target, budget)
        answer = Ranked(found.values, found.residual, asked.bound(found.residual), found.applies, found.method)
        left = ((answer.bound > tol) & (answer.bound > 2 * floor)).nonzero()[:, 0]
        if direct and len(left):
            answer = answer.improved(left, _by_lu(asked[left]))
    return answer


def _by_lu(asked: Asked) -> Ranked:
    """(I − α Aᵀ) x = (1 − α) v, one head after the other: columns of which the diagonal dominates."""
    operator, rest = asked.operator, (1 - asked.alpha) * asked.jump
    assert isinstance(operator, Dense)
    found, images = [], []
    # the same memory for all heads: fresh pages cost as much as what is written to them
    system = torch.empty(operator.shape[-2:], dtype=torch.float64)
    copy = None if operator.dtype == torch.float64 else torch.empty_like(system)
    for head, weights in enumerate(operator.weights):
        wide, factors = weights, torch.ones((), dtype=torch.float64)
        if copy is not None:
            # the chain in double precision is that of the rows divided by their exact sums
            wide = copy.copy_(weights)
            factors = 1 / wide.sum(-1, keepdim=True)
        torch.mul(wide, -asked.alpha * factors, out=system).diagonal().add_(1)
        x = distribution(solve_once(system.mT, rest[head])[:, None])
        found.append(x)
        images.append(weighted_rows(wide, x * factors))
    return _judged(asked, torch.stack(found)[..., 0], asked.alpha * torch.cat(images) + rest, 1, "lu")


def _judged(asked: Asked, x: Tensor, stepped: Tensor, applies: int, method: str) -> Ranked:
    """Of an answer x (h, N) and one plain step of it; where x is none, of v."""
    good = torch.isfinite(stepped).all(-1)
    if not bool(good.all()):
        x = torch.where(good[:, None], x, asked.jump)
        stepped = asked.step(x)
    residual = asked.alpha * (stepped - x).abs().sum(-1)
    return Ranked(stepped, residual, asked.bound(residual), applies, method)


def _substituted(asked: Asked) -> Ranked:
    x = distribution(substituted(asked.operator, asked.alpha, asked.jump)[..., None])[..., 0]
    return _judged(asked, x, asked.step(x), 2, "substitution")


def by_elimination(asked: Asked, found: Ranked, entry_error: Tensor, tol: float) -> Ranked:
    """Where less is proved than ``tol``: α A + (1 − α) 1 vᵀ, entry by entry, however close α is to one.

    Args:
        asked: chains (h, N, N) that have not been materialised, so that it is known what a softmax lost.
        found: their answers.
        entry_error: |log| of what entries are off by in float64, (h,); see ``Operator``.
        tol: ℓ1 error.
    """
    n = asked.operator.num_tokens
    # of α A + (1 − α) v, and of the sums that divide rows of A
    error = entry_error + (n + 4) * UNIT
    left = ((found.bound > tol) & (stationary_error(n, error) < found.bound)).nonzero()[:, 0]
    for some in left.split(max(1, constants.ELIMINATION_BYTES // (8 * n * n))) if len(left) else ():
        part, off = asked[some], error[some]
        chain = asked.alpha * part.operator.to_dense(torch.float64) + (1 - asked.alpha) * part.jump[:, None]
        values, _, bound = bounded_stationary(chain, off)
        # steps that a softmax lost count for nothing where jumps lead everywhere
        jumps = (1 - asked.alpha) * part.jump.amin(-1) > constants.LOST
        bound = torch.where(jumps | (entry_error[some] == 0), bound, torch.inf)
        residual = (part.step(values) - values).abs().sum(-1)
        found = found.improved(some, Ranked(values, residual, bound, 1, "elimination"))
    return found
