"""What an iterative answer is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Certificate:
    """Carried by every iterative answer.

    Attributes:
        converged: bool (*batch): the bound, or where there is none the residual, met the tolerance; (*batch, C) where a
            chain has several answers.
        residual: what the equation that was solved is off by: ‖πᵀG − πᵀ‖₁ for stationary distributions, the
            largest entry for systems of equations. Same shape.
        error_bound: proved bound of the distance to the exact answer in the same norm; None where nothing can be
            proved (stationary distributions without teleport).
        applies: attention applications spent (the largest over the batch).
        method: "power", "gmres", "substitution" or "elimination"; "none" where there was nothing to solve.
    """

    converged: Tensor
    residual: Tensor
    error_bound: Tensor | None
    applies: int
    method: str

    def __getitem__(self, index: Any) -> Certificate:
        """The certificate of some of the chains."""
        bound = None if self.error_bound is None else self.error_bound[index]
        return replace(self, converged=self.converged[index], residual=self.residual[index], error_bound=bound)

    def __str__(self) -> str:
        bound = "" if self.error_bound is None else f", ℓ1 error ≤ {float(self.error_bound.max()):.1e}"
        state = "converged" if bool(self.converged.all()) else "NOT converged"
        return f"{state}, residual {float(self.residual.max()):.1e}{bound}, {self.applies} applies, {self.method}"
