"""Chains that are passed over once, a few tokens after the other, as substitution does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Solve = Callable[[slice, Tensor, Tensor], Tensor]
"""Tokens, M among them (h, k, k), and what flows to them from tokens before, Σ M_ij x_j, (h, k, c) → their x."""


@runtime_checkable
class Sweeping(Protocol):
    """A triangular chain (h, N, N) whose rows are not at hand, and which is swept instead."""

    @property
    def sweeps(self) -> bool:
        """Whether this one can: not with a mask of its own for each pair."""

    def swept(self, width: int, forwards: bool, transposed: bool, columns: int, solve: Solve) -> Tensor:
        """x (h, N, c) of ``solve``, called for ``width`` tokens after the other, all in float64.

        Args:
            width: k.
            forwards: from the first token to the last, or from the last to the first.
            transposed: whether M is Aᵀ, or A.
            columns: c.
            solve: gives x of some tokens; on several ranks each calls it with the same numbers.
        """
