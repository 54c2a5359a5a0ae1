"""What an iterative answer is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Certificate:
    """Carried by every iterative answer.

    Attributes:
        converged: bool (*batch): the bound, or where there is none the residual, met the tolerance.
        residual: ‖πᵀG − πᵀ‖₁ of the answer under the chain G that was solved, (*batch).
        error_bound: proved bound of the ℓ1 distance to the exact answer, (*batch); None where
            nothing can be proved (no teleport).
        applies: attention applications spent (the largest over the batch).
        method: "power", "gmres" or "substitution".
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
