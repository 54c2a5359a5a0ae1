"""A walk that ends, what it asks for, and what an answer is proved to be worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...operators import Operator
from . import constants
from .sums import deviation, rounding


@dataclass(frozen=True)
class Killed:
    """x = Q x + b, Q = D A D, D = diag(alive), for heads (h, N, N).

    Attributes:
        operator: A.
        alive: bool (h, N).
        rhs: (h, N, 1 + c), zero off ``alive``: ones, which give the times until the walk is out, and b.
        row_error: η (h,), a bound of max_i Σ_j |Â_ij − A_ij|, where A was asked for and Â is applied.
        entry_error: δ (h,), a bound of |log Â_ij − log A_ij|.
        into: (h, N, 1 + c), y of the columns with b = A y, 0 ≤ y ≤ 1, zero for others; None if there are none. Such b
            have the errors of the operator, and residuals take A (x + y) in one product, whose rows sum to one.
        tol: what is wanted of x.
        kept: bool (h,): every possible step of A is a number of Â with all its digits; see ``steps_kept``.
    """

    operator: Operator
    alive: Tensor
    rhs: Tensor
    row_error: Tensor
    entry_error: Tensor
    into: Tensor | None
    tol: float
    kept: Tensor

    @property
    def entering(self) -> bool:
        """Whether columns of b are probabilities of steps of the operator."""
        return self.into is not None

    def index(self, heads: Tensor | slice) -> Killed:
        """The same of some of the heads."""
        part: dict[str, Any] = {
            name: getattr(self, name)[heads] for name in ("alive", "rhs", "row_error", "entry_error", "kept")
        }
        into = None if self.into is None else self.into[heads]
        return replace(self, operator=self.operator.index(heads), into=into, **part)

    def of(self, operator: Operator) -> Killed:
        """The same with another form of the operator, whose own steps b then are."""
        if self.into is None:
            return replace(self, operator=operator)
        steps = torch.where(self.alive[..., None], operator @ self.into, 0.0)
        return replace(self, operator=operator, rhs=torch.where(_columns_of(self.into), steps, self.rhs))

    def columns(self, part: slice) -> Killed:
        """The same for some of the right-hand sides."""
        return replace(self, rhs=self.rhs[..., part], into=None if self.into is None else self.into[..., part])

    def left(self, x: Tensor) -> Tensor:
        """Qx + b − x, (h, N, 1 + c)."""
        if self.into is None:
            return self.rhs + torch.where(self.alive[..., None], self.operator @ x, 0.0) - x
        steps = torch.where(self.alive[..., None], self.operator @ (x + self.into), 0.0)
        return self.rhs.masked_fill(_columns_of(self.into), 0.0) + steps - x

    def unit(self) -> Tensor:
        """What rounding may hide in ``left``, relative to max |x|, (h,): in the sums, and in rows off one."""
        sums = self.operator @ torch.ones_like(self.rhs[..., 0])
        return (sums - 1).abs().amax(-1) + 2 * rounding(self.operator.num_tokens)

    def moved(self, x: Tensor, unit: Tensor) -> Tensor:
        """A bound of ‖(Â − A) x‖∞ on walking tokens, x with what it is where the walk is out, (h, 1 + c).

        Rows of both sum to one, so that only how far x is from its mean one step ahead counts: little for a walk that
        changes slowly, and no more than η times the largest number.
        """
        size = x.abs().amax(-2)
        ahead = torch.zeros_like(self.rhs)
        if self.entering:
            ahead[..., 1:] = self.rhs[..., 1:]  # A y = A y² of y = 1 on what is entered
            size = size.clamp(min=1)
        square, mean = ((self.operator @ v) + ahead for v in (x.square(), x))
        spread = torch.where(self.alive[..., None], deviation(square, mean, unit[:, None, None]), 0.0).amax(-2)
        spread = spread.nan_to_num(nan=torch.inf, posinf=torch.inf)
        lost = self.operator.num_tokens * constants.TINY  # of steps that underflow, which count in η alone
        spread = torch.expm1(self.entry_error)[:, None] * spread + lost * size
        return torch.minimum(spread, self.row_error[:, None] * size)

    def lasting(self) -> Tensor:
        """A bound of |log x̂ − log x|, (h,), of the exact answers x̂ of Â and x of A where b ≥ 0.

        Entries of x are quotients of sums of products of as many entries of A as tokens walk (the matrix-tree
        theorem, with the diagonal what the other entries leave over). inf where steps are lost.
        """
        return torch.where(self.kept, 2 * self.alive.sum(-1) * self.entry_error, torch.inf)


@dataclass(frozen=True)
class Answer:
    """x (h, N, 1 + c), times first, and per column (h, 1 + c) what it is worth.

    Attributes:
        x: the answer.
        size: max |x|.
        residual: max |Qx + b − x|.
        applied: a bound of |x − exact| for the chain that is applied: what a better method would make smaller.
        bound: a bound of |x − exact| for the chain that was asked for.
        direct: solved directly, with all entries accurate, bool (h,); and as far as is wanted, for the chain that was
            asked for.
    """

    x: Tensor
    size: Tensor
    residual: Tensor
    applied: Tensor
    bound: Tensor
    direct: Tensor
    applies: int
    method: str

    TENSORS = ("x", "size", "residual", "applied", "bound", "direct")

    @classmethod
    def joined(cls, parts: Sequence[Answer], order: Sequence[str]) -> Answer:
        """Of several groups of heads, one after the other; the last method in ``order`` is told."""
        fields = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.TENSORS}
        method = max((part.method for part in parts), key=order.index)
        return cls(**fields, applies=max(part.applies for part in parts), method=method)

    def replaced(self, heads: Tensor, part: Answer) -> Answer:
        """With other answers for some of the heads."""
        fields = {name: getattr(self, name).index_copy(0, heads, getattr(part, name)) for name in self.TENSORS}
        return Answer(**fields, applies=part.applies, method=part.method)


def _columns_of(into: Tensor) -> Tensor:
    """Which columns are steps, bool (h, 1, 1 + c)."""
    return (into != 0).any(-2, keepdim=True)


def steps_kept(operator: Operator, a: Tensor) -> Tensor:
    """Whether all possible steps (h, N, N) of an operator are there in a = Â, none lost below the smallest numbers."""
    return ((a > constants.LOST) | ~operator.support()).all(-1).all(-1)


def stretch_of(alive: Tensor, t: Tensor, left: Tensor, unit: Tensor | float, row_error: Tensor | float = 0.0) -> Tensor:
    """A bound of ‖(I − Q)⁻¹‖∞ of the chain that was asked for, (h,); inf if nothing can be proved.

    Args:
        alive, t, left: (h, N); t ≈ (I − Q)⁻¹ 1 and left = 1 + Qt − t of the operator that is applied.
        unit: what rounding may hide in ``left``, relative to max t.
        row_error: η; Qt of the two chains differ by η max t at most.

    With m = min(t − Qt) > 0, t ≥ m (I − Q)⁻¹ 1, since I − Q is an M-matrix.
    """
    longest = torch.where(alive, t, 0.0).amax(-1)
    drop = torch.where(alive, 1 - left, torch.inf).amin(-1) - (unit + row_error) * longest
    bound = torch.where(drop > 0, longest / drop.clamp(min=1e-300), torch.inf)
    return torch.where(alive.any(-1), bound, 0.0)  # nobody walks: x = 0


@dataclass(frozen=True)
class Reach:
    """Bounds of ‖(I − Q)⁻¹‖∞, (h,), of the chain that is applied and of the one that was asked for."""

    applied: Tensor
    asked: Tensor

    @classmethod
    def of(cls, asked: Killed, t: Tensor, left: Tensor, unit: Tensor) -> Reach:
        """From times t (h, N) and what they leave over; ``unit`` (h,) as in ``stretch_of``."""
        return cls(*(stretch_of(asked.alive, t, left, unit, error) for error in (0.0, asked.row_error)))


def bounds(asked: Killed, x: Tensor, residual: Tensor, reach: Reach, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Of |x − exact| in every column, (h, 1 + c), for the chain that is applied and for the one that was asked for.

    Args:
        asked: the problem.
        x: an answer, (h, N, 1 + c), zero off ``alive``.
        residual: ‖Qx + b − x‖∞ as it was computed, (h, 1 + c).
        reach: what errors are multiplied by.
        unit: what rounding hides in that, relative to max |x|, (h,).
    """
    size = x.abs().amax(-2)
    applied = stretched(residual + unit[:, None] * size, reach.applied[:, None])
    if asked.entering:
        applied = applied + rounding(asked.operator.num_tokens) * size  # of the sums in b ≥ 0
    if not bool((asked.entry_error > 0).any()):
        return applied, applied
    by_rows = stretched(asked.moved(x, unit), reach.asked[:, None])
    by_entries = carried(size + applied, asked.lasting()[:, None])
    signed = (asked.rhs < 0).any(-2)
    least = torch.minimum(by_rows, by_entries)
    return applied, applied + torch.where(signed, by_rows, least)


def stretched(room: Tensor, stretch: Tensor) -> Tensor:
    """room · stretch with 0 · ∞ = 0; inf where it is not known."""
    return (room * stretch).masked_fill(room == 0, 0.0).nan_to_num(nan=torch.inf, posinf=torch.inf)


def carried(size: Tensor, lasting: Tensor) -> Tensor:
    """How far numbers up to ``size`` are apart whose logarithms are ``lasting`` apart; inf where that is not known."""
    return torch.where(torch.isfinite(lasting), torch.expm1(lasting) * size, torch.inf).nan_to_num(nan=torch.inf)


def judged(asked: Killed, x: Tensor, applies: int, method: str) -> Answer:
    """An answer with its residual and its bound."""
    finite = torch.isfinite(x)
    known = x.masked_fill(~finite, 0.0)
    left = asked.left(known).masked_fill(~finite, torch.inf)
    residual, unit = left.abs().amax(-2), asked.unit()
    applied, bound = bounds(asked, known, residual, Reach.of(asked, x[..., 0], left[..., 0], unit), unit)
    exact = finite.all(-1).all(-1) & (asked.lasting() <= asked.tol) & (method != "gmres")
    return Answer(x, x.abs().amax(-2), residual, applied, bound, exact, applies, method)
