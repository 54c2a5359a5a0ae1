"""What is known of |λ2| of h heads while they are worked on, and when it is good enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.krylov import Apply
from .located import ERROR

TOLERANCE = 2e-4  # residual that counts as converged, relative to max(|λ2|, 0.1)
MARGIN = 0.9  # of it, and of the error, while the residual is only what the recurrence sees
ORDER = ("diagonal", "classes", "eigenvalues", "subspace", "arnoldi")


@dataclass
class Found:
    """What is known of h heads while they are worked on, all in float64 (h,).

    ``bounded``: whether of some a bound is proved; None where only a look at the bounds tells.
    """

    values: Tensor
    residual: Tensor
    bound: Tensor
    uncertain: Tensor
    applies: int = 1
    method: str = "diagonal"
    bounded: bool | None = None

    @classmethod
    def nothing(cls, heads: int, device: torch.device) -> Found:
        """Zeros of which nothing is proved."""
        zero = torch.zeros(heads, dtype=torch.float64, device=device)
        return cls(zero, zero.clone(), zero + torch.inf, zero == 0, bounded=False)

    def put(self, heads: Tensor | slice, other: Found) -> None:
        """Answers of some of the heads."""
        for name in ("values", "residual", "bound", "uncertain"):
            getattr(self, name)[heads] = getattr(other, name)
        self.applies = max(self.applies, other.applies)
        self.method = max(self.method, other.method, key=ORDER.index)
        self.bounded = _either(self.bounded, other.bounded)


def exact(values: Tensor, off: Tensor, method: str = "diagonal") -> Found:
    """Values (h,) that are proved to be off by no more than ``off``."""
    return Found(values, torch.zeros_like(values), off, off > ERROR, 1, method)


def larger(one: Found, other: Found) -> Found:
    """The larger of two eigenvalues of one head, as far as they are known."""
    first = one.values >= other.values
    top = torch.maximum(one.values, other.values)
    upper = torch.maximum(one.values + one.bound, other.values + other.bound)
    lower = torch.maximum(one.values - one.bound, other.values - other.bound)
    # no modulus is above one: who is proved to be there is the larger, whatever is known of the other
    decided = torch.maximum(upper.clamp(max=1) - top, top - lower)
    known = decided <= ERROR
    return Found(
        top,
        torch.where(first, one.residual, other.residual),
        torch.where(known, decided, torch.maximum(upper - top, top - lower)),
        (one.uncertain | other.uncertain) & ~known,
        max(one.applies, other.applies),
        max(one.method, other.method, key=ORDER.index),
        None if one.bounded is not False or other.bounded is not False else False,
    )


def _either(one: bool | None, other: bool | None) -> bool | None:
    return True if one or other else False if one is False and other is False else None


def settled(modulus: Tensor, residual: Tensor, condition: Tensor, share: float = 1.0) -> Tensor:
    """Whether eigenvalues (h,) are good enough, by ‖M y − λ y‖₂ and by what that may do to them."""
    return (residual <= share * TOLERANCE * modulus.clamp(min=0.1)) & (residual * condition <= share * ERROR)


def measured(apply: Apply, y: Tensor) -> tuple[Tensor, Tensor]:
    """|θ| and ‖M y − θ y‖₂ with θ = yᴴMy of unit Ritz vectors y (h, N, 2), real and imaginary part, in float64."""
    y = y.double()
    y = y / torch.linalg.matrix_norm(y, keepdim=True)
    image, y = torch.view_as_complex(apply(y).contiguous()), torch.view_as_complex(y.contiguous())
    theta = (y.conj() * image).sum(-1)
    return theta.abs(), torch.linalg.vector_norm(image - theta[:, None] * y, dim=-1)
