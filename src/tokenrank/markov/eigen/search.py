"""The leading Ritz pair of many heads: powers of all of them at first, a Krylov space for those that need one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...operators import Operator
from ..engine import constants
from ..engine.krylov import Apply, KrylovSpace
from ..engine.subspace import Settled, dominant


class Search:
    """Ritz pairs (θ, y) of heads (h, N, N) as the working precision sees them, from one attempt to the next.

    Args:
        operator: the heads, in that precision.
        map_of: heads → the map M of these, (…, N, b) → (…, N, b).
        start: b → as many independent normal columns, (h, N, b), the same ones for every head.
        settled: |θ|, residual and condition (h,) → which are good enough, bool.

    Attributes:
        values: |θ|, float64 (h,).
        residual: ‖M y − θ y‖₂ of unit y, (h,); inf where nothing was seen.
        condition: the condition number of θ as the random start saw it, (h,).
        vectors: y of heads that settled, real and imaginary part, (h, N, 2) in float64.
        left: the heads that did not settle.
        applies: products with M.
    """

    def __init__(
        self, operator: Operator, map_of: Callable[[Operator], Apply], start: Callable[[int], Tensor], settled: Settled
    ) -> None:
        heads, n = operator.shape[:2]
        self._operator, self._map_of, self._start, self._settled = operator, map_of, start, settled
        self._space: KrylovSpace | None = None
        self.values = torch.zeros(heads, dtype=torch.float64, device=operator.device)
        self.residual, self.condition = self.values + torch.inf, self.values.clone()
        self.vectors = self.values.new_zeros(heads, n, 2)
        self.left, self.applies = torch.arange(heads, device=operator.device), 0

    def powers(self, matrix_for: Callable[[Tensor], Tensor] | None) -> None:
        """Subspace iteration on all heads.

        Args:
            matrix_for: see ``dominant``.
        """
        found = dominant(self._map_on, matrix_for, self._start(constants.SUBSPACE_WIDTH), self._settled)
        self.values[found.heads], self.residual[found.heads] = found.value, found.residual
        self.condition[found.heads], self.vectors[found.heads] = found.condition, found.vector
        self.left, self.applies = found.left, found.applies

    def krylov(self, width: int, small: float) -> None:
        """Block Arnoldi with thick restarts on the heads that are left.

        Args:
            width: columns of a block.
            small: residual from which on the condition is looked at while the first space grows.
        """
        space, apply = KrylovSpace(self._start(width)[: len(self.left)], constants.LAMBDA2_DIMENSION), None
        seen = torch.zeros_like(self.values)
        for restart in range(1 + constants.LAMBDA2_RESTARTS):
            while len(self.left):
                apply = apply or self._map_on(self.left)
                for _ in range(constants.LAMBDA2_DIMENSION // width // constants.LAMBDA2_CHECKS):
                    if not space.full:
                        space.extend(apply)
                        self.applies += 1
                # the random start of the first space tells the condition, even of what does not settle in it
                ritz = space.leading(torch.inf if restart == 0 and space.full else small)
                if restart == 0:
                    seen[self.left] = ritz.seen.double()
                condition = torch.maximum(ritz.condition.double(), seen[self.left])
                modulus, residual = ritz.value.abs().double(), ritz.residual.double()
                self.values[self.left], self.residual[self.left], self.condition[self.left] = (
                    modulus, residual, condition,
                )  # fmt: skip
                settled, full = self._settled(modulus, residual, condition), space.full
                if full or bool((~settled).sum() * 2 <= len(self.left)):
                    ready = settled.nonzero()[:, 0]
                    self.vectors[self.left[ready]] = space.vector(ritz.coordinates[ready], ready).double()
                    self.left, space, apply = self.left[~settled], space.select(~settled), None
                if full:
                    break
            if not len(self.left) or restart == constants.LAMBDA2_RESTARTS:
                break
            space = space.restart(space.dimension // 8 * 2)
        self._space = space

    def growth(self, project: Callable[[Tensor], Tensor]) -> Tensor:
        """How fast ‖Mᵏ X‖ grows on the heads that no Krylov space settled, from the best block of theirs, (h,).

        Args:
            project: X → the part of it that M acts on.
        """
        assert self._space is not None
        x, apply, rates = project(self._space.leading_block()), self._map_on(self.left), []
        for _ in range(constants.LAMBDA2_GROWTH_STEPS):
            x = x / torch.linalg.matrix_norm(x, keepdim=True)
            x = apply(x)
            rates.append(torch.linalg.matrix_norm(x).log())
        self.applies += constants.LAMBDA2_GROWTH_STEPS
        return torch.stack(rates[constants.LAMBDA2_GROWTH_STEPS // 2 :]).mean(0).exp()

    def _map_on(self, heads: Tensor) -> Apply:
        return self._map_of(some_heads(self._operator, heads))


def some_heads(operator: Operator, heads: Tensor) -> Operator:
    """Heads (k,) of (h, N, N), in order; all of them as they are."""
    return operator if len(heads) == operator.shape[0] else operator.index(heads)
