"""TokenRank of all heads of a chain on a device: solved in low precision, proved from queries and keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from ...memory import free_bytes
from ...operators import Operator
from . import constants
from .certify import certified_step
from .fixed_point import distribution
from .frozen_gmres import FrozenGMRES
from .lu import Factor, factor
from .placement import placed
from .rank import UNIT, Ranked, proved
from .triangular import substituted

EXPECTED = 40  # products of one TokenRank of a dozen heads: the slowest sets the pace
SHARE = 0.75  # of the tolerance that may go to what a step is off by
ASKED = 1e-3  # of a residual, at first: rounding of a chain that is kept in half precision leaves about that
LEAST = 2e-6  # and at the end: that of products in single precision
FURTHER = 0.05  # so much less is asked for next where a residual became what was asked for
SLOW = 0.5  # of a residual that is left after a whole space: such a head is factored
STALLED = 0.97  # of a residual that is left where nothing helps
USELESS = 0.05  # of what a step is off by: a residual below does not matter


def device_ranked(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Ranked:
    """π = α Aᵀ π + (1 − α) v of every head, to a proved ℓ1 error of ``tol`` if that can be had.

    Args:
        operator: (h, N, N).
        alpha: 0 … 1, less than 1.
        jump: v, (h, N), distributions in float64.
        tol: ℓ1 error.
        max_applies: products allowed, in any precision.

    The chain is placed once (``placed``), in half precision where that is cheapest, and iterated by GMRES, all heads at
    once; which of them are done is read once in eight products. Residuals come from what the chain is made of, by
    chunks of rows in double precision (``certified_step``), and are right-hand sides of the next round: iterative
    refinement, so that the precision of the iteration is none of the answer's. Only heads that are not done take part.

    Heads that a whole Krylov space does not help (permutations, clusters), or that took ``constants.RANK_PATIENCE``
    products, are factored in single precision, up to ``constants.RANK_STUBBORN`` tokens, one after the other.
    Triangular chains are solved by substitution. Nothing N × N is made in double precision.
    """
    if operator.structure != "full":
        x = distribution(substituted(operator, alpha, jump)[..., None])[..., 0]
        x = torch.where(torch.isfinite(x).all(-1, keepdim=True), x, jump)
        values, wrong = _stepped(operator, alpha, jump, x, 0.0)
        residual = alpha * (values - x).abs().sum(-1)
        return Ranked(values, residual, proved(residual, wrong, alpha, operator.num_tokens), 2, "substitution")
    return _Search(operator, alpha, jump, tol).run(max_applies)


class _Search:
    """Refinement of all heads at once: the best answer of each, and which of them go on."""

    def __init__(self, operator: Operator, alpha: float, jump: Tensor, tol: float) -> None:
        heads, n = jump.shape
        self.operator, self.alpha, self.jump, self.tol = operator, alpha, jump, tol
        self.large = n > constants.RANK_STUBBORN
        product = placed(operator, EXPECTED)
        self.solver = FrozenGMRES(product, alpha, heads, n, operator.device)
        self.factors: dict[int, Factor] = {}
        self.factored = torch.zeros(heads, dtype=torch.bool, device=operator.device)
        self.open = ~self.factored
        # ‖step(x) − x‖₁ that is enough, beside what the step may be off by
        self.target = torch.full_like(jump[:, 0], (1 - SHARE) * tol * (1 - alpha) / max(alpha, constants.TINY))
        # the first step proves nothing: it is taken in single precision
        image = product(jump.float()[..., None], self.open)[..., 0]
        self.x, self.values = jump, torch.add((1 - alpha) * jump, image.double(), alpha=alpha)
        self.size = (self.values - jump).abs().sum(-1)
        self.wrong = self.bound = torch.full_like(self.size, torch.inf)
        self.asked, self.applies, self.first = torch.full_like(self.size, ASKED), 1, True

    def run(self, max_applies: int) -> Ranked:
        left, beyond = [True] * len(self.jump), [True]
        while any(left):
            trial = self._corrected(left, max(1, max_applies - self.applies - 1))
            left, beyond = self._judged(trial, left)
            if self.applies + 2 > max_applies:
                break
        method = "lu" if self.factors else "gmres"
        return Ranked(self.values, self.alpha * self.size, self.bound, self.applies, method, not any(beyond))

    def _corrected(self, left: Sequence[bool], max_applies: int) -> Tensor:
        """x (h, N) with what is missing solved for."""
        size = self.size.clamp(min=constants.TINY)
        missing = (self.values - self.x) / size[:, None]
        missing = missing - missing.mean(-1, keepdim=True)
        if not all(left):
            missing = torch.where(self.open[:, None], missing, 0.0)
        # what the step may still be off by is known after the first
        room = self.target if self.first else torch.maximum(self.target, self._room())
        self.wanted = torch.maximum(0.5 * room / size, self.asked)
        if all(head in self.factors for head, on in enumerate(left) if on):
            change, self.reached = torch.zeros_like(missing), self.factored
        else:
            iterated = torch.where(self.factored[:, None], 0.0, missing) if self.factors else missing
            found, remains, spent = self.solver.solve(iterated, self.wanted, max_applies)
            change, self.reached, self.applies = found.double(), remains <= self.wanted, self.applies + spent
        for head, factors in self.factors.items():
            if left[head]:
                change[head] = factors.solve(missing[head, :, None].float())[:, 0].double()
        trial = distribution(torch.addcmul(self.x, size[:, None], change)[..., None])[..., 0]
        return torch.where(torch.isfinite(trial).all(-1, keepdim=True), trial, self.x)

    def _judged(self, trial: Tensor, left: Sequence[bool]) -> tuple[list[bool], list[bool]]:
        """Which heads go on, after a step that proves something, and which are not within the tolerance; what is better
        is kept.
        """
        values, wrong = self._steps(trial, left)
        size = (values - trial).abs().sum(-1)
        fell = size / self.size.clamp(min=constants.TINY)
        self._keep(trial, values, size, wrong)
        self._ask(fell)
        done = (self.bound <= self.tol) | (self.alpha * self.size <= USELESS * self.wrong)
        self.open = self.open & ~done
        slow = fell > SLOW
        if self.first:  # that residual was in single precision: what is left after a solve that went well says little
            slow, self.first = slow & ~self.reached, False
        else:
            if not self.solver.fresh:  # a few steps of a space that was there
                slow = slow & self.reached
            if self.large:
                self.open = self.open & (fell <= STALLED)
        if self.factors:
            self.open = self.open & ~(slow & self.factored)
        # the one time that the host waits
        on, unhelped, beyond = torch.stack([self.open, self.open & slow, ~(self.bound <= self.tol)]).tolist()
        if not self.large:
            for head in self._stubborn(on if self.applies > constants.RANK_PATIENCE else unhelped)[: self._places()]:
                self.factors[head] = self._factor(head)
                self.factored[head] = True
        return on, beyond

    def _steps(self, trial: Tensor, left: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """A step of the heads that are left, and what it may be off by."""
        self.applies += 1
        if all(left):
            return _stepped(self.operator, self.alpha, self.jump, trial, self.tol)
        values, wrong = self.values.clone(), self.wrong.clone()
        for some in runs(left):
            part = self.operator.index(some)
            values[some], wrong[some] = _stepped(part, self.alpha, self.jump[some], trial[some], self.tol)
        return values, wrong

    def _keep(self, trial: Tensor, values: Tensor, size: Tensor, wrong: Tensor) -> None:
        bound = proved(self.alpha * size, wrong, self.alpha, self.operator.num_tokens)
        better = self.open & (bound < self.bound)
        rows = better[:, None]
        self.x, self.values = torch.where(rows, trial, self.x), torch.where(rows, values, self.values)
        self.size, self.bound = torch.where(better, size, self.size), torch.where(better, bound, self.bound)
        self.wrong = torch.where(better, wrong, self.wrong)

    def _ask(self, fell: Tensor) -> None:
        """How much of a residual the next solve may leave: what the precision of products allows, as far as is seen."""
        limited = fell > 2 * self.wanted
        asked = torch.where(limited, fell / 2, FURTHER * self.asked)
        self.asked = torch.where(self.reached, asked, self.asked).clamp_(LEAST, 0.1)

    def _room(self) -> Tensor:
        """‖step(x) − x‖₁ that is enough beside what the step is off by."""
        return (self.tol * (1 - self.alpha) - self.wrong) / max(self.alpha, constants.TINY)

    def _stubborn(self, heads: Sequence[bool]) -> list[int]:
        return [head for head, it in enumerate(heads) if it and head not in self.factors]

    def _places(self) -> int:
        """How many heads more may be factored: a quarter of the memory that is free, two matrices each."""
        free = free_bytes(self.operator.device)
        return len(self.jump) if free is None else free // (32 * self.operator.num_tokens**2)

    def _factor(self, head: int) -> Factor:
        """Of I − α Aᵀ, one head in single precision."""
        system = self.operator.index(slice(head, head + 1)).to_dense(torch.float32)[0] * -self.alpha
        system.diagonal().add_(1.0)
        return factor(system.mT)


def _stepped(operator: Operator, alpha: float, jump: Tensor, x: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """α Aᵀx + (1 − α) v in float64, (h, N), and what it may be off by, (h,)."""
    enough = SHARE * tol * (1 - alpha) / max(alpha, constants.TINY)
    image, wrong = certified_step(operator, x, enough)
    return torch.add((1 - alpha) * jump, image, alpha=alpha), alpha * wrong + 8 * UNIT


def runs(chosen: Sequence[bool]) -> Iterator[slice]:
    """The heads that are chosen, those that follow each other together."""
    start = 0
    for on, some in groupby(chosen):
        stop = start + len(list(some))
        if on:
            yield slice(start, stop)
        start = stop
