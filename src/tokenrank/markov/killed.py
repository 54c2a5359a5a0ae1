"""The walk that dies when it enters some tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Operator


@dataclass(frozen=True)
class Killed:
    """Q = α A[S, S] + (1 − α) 1 v_Sᵀ with v uniform over all N tokens, for a batch of heads (h, N, N).

    Vectors are (h, N) in float64 and zero off S.

    Attributes:
        operator: A.
        alive: S, bool (h, N).
        alpha: probability of following attention.
    """

    operator: Operator
    alive: Tensor
    alpha: float

    @property
    def jump(self) -> float:
        """Probability of teleporting to any one token, (1 − α)/N."""
        return (1 - self.alpha) / self.operator.num_tokens

    def image(self, x: Tensor) -> Tensor:
        """Qᵀ x: where the walk is after one more step, and how much of it is left."""
        stepped = self.alpha * self.operator.rmatmul(x[..., None])[..., 0] + self.jump * x.sum(-1, keepdim=True)
        return torch.where(self.alive, stepped, 0.0)

    def row_sums(self) -> Tensor:
        """Q 1: the probability of surviving a step from every token of S, (h, N); zero off S."""
        inside = self.alive.double()
        kept = self.alpha * self.operator.matmul(inside[..., None])[..., 0] + self.jump * inside.sum(-1, keepdim=True)
        return torch.where(self.alive, kept.clamp(max=1), 0.0)

    def dense(self) -> Tensor:
        """Q (h, N, N); rows and columns off S are zero."""
        q = self.alpha * self.operator.to_dense(torch.float64) + self.jump
        return torch.where(self.alive[:, :, None] & self.alive[:, None, :], q, 0.0)

    def index(self, heads: Tensor) -> Killed:
        """Some of the heads."""
        return Killed(self.operator.index(heads), self.alive[heads], self.alpha)

    def uniform(self) -> Tensor:
        """The uniform distribution on S, (h, N)."""
        inside = self.alive.double()
        return inside / inside.sum(-1, keepdim=True)
