"""Modes: leading eigenvalues after λ1 with bases of their subspaces, and the measure of what these are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...operators import Operator
from ..engine.krylov import quotient
from ..engine.transfer import sent

ORTHONORMAL = 1e-10  # how far QᵀQ may be from I
AGREES = 1e-6  # how far the eigenvalues of QᵀAQ may be from those that are given


@dataclass(frozen=True)
class Side:
    """Subspaces of h chains, right or left, m wide, zero beyond what a head has.

    Attributes:
        basis: (h, N, m), orthonormal, orthogonal to the constant vector.
        residual: what the image of each vector has outside of the span up to it, (h, m).
        sound: whether it is what it has to be, bool (h,).
    """

    basis: Tensor
    residual: Tensor
    sound: Tensor


@dataclass(frozen=True)
class Modes:
    """Of h chains: values complex128 (h, m), NaN beyond what a head has, and what belongs to them.

    Attributes:
        bound: every value has an eigenvalue of its own no farther away, and those that are not given are no larger
            than the last one by more, (h,); inf where that is not proved.
        certain: bool (h,).
        told: the largest count, and whether of some a bound is proved, where the host knows it already; or None.
    """

    values: Tensor
    right: Side
    left: Side | None
    bound: Tensor
    certain: Tensor
    applies: int
    method: str
    told: tuple[int, bool] | None = None

    def put(self, heads: Tensor, other: Modes) -> None:
        """Better answers for some of the heads."""
        self.values[heads], self.bound[heads], self.certain[heads] = other.values, other.bound, other.certain
        for mine, theirs in ((self.right, other.right), (self.left, other.left)):
            if mine is not None and theirs is not None:
                mine.basis[heads], mine.residual[heads], mine.sound[heads] = theirs.basis, theirs.residual, theirs.sound

    @property
    def count(self) -> Tensor:
        """How many values each head has, (h,)."""
        return (~torch.isnan(self.values.real)).sum(-1)


def joined(groups: Sequence[Modes]) -> Modes:
    """Several groups of heads, one after the other."""

    def side(parts: Sequence[Side]) -> Side:
        return Side(*(torch.cat([getattr(p, name) for p in parts]) for name in ("basis", "residual", "sound")))

    left = [m.left for m in groups if m.left is not None]
    return Modes(
        torch.cat([m.values for m in groups]),
        side([m.right for m in groups]),
        side(left) if left else None,
        torch.cat([m.bound for m in groups]),
        torch.cat([m.certain for m in groups]),
        max(m.applies for m in groups),
        max((m.method for m in groups), key=("substitution", "eigenvalues", "arnoldi").index),
    )


def moved(modes: Modes, device: torch.device) -> Modes:
    """From the host to a device."""

    sides = [modes.right] if modes.left is None else [modes.right, modes.left]
    flat = [t for side in sides for t in (side.basis, side.residual, side.sound)]
    values, bound, certain, *flat = sent(device, modes.values, modes.bound, modes.certain, *flat)
    right, left = Side(*flat[:3]), None if modes.left is None else Side(*flat[3:])
    return Modes(values, right, left, bound, certain, modes.applies, modes.method)


def measured(operator: Operator, values: Tensor, basis: Tensor, transposed: bool, tolerance: float) -> Side:
    """A basis (h, N, m) as it is: ‖QᵀQ − I‖, ‖AQ − QM‖ with M block triangular, and the eigenvalues of M, in float64.

    What the image of a vector has outside of the span up to it is its residual: out of the basis, or (where
    eigenvectors are almost parallel, so that their span is ill defined) in later vectors of it.
    """
    given = ~torch.isnan(values.real)
    if not given.shape[-1]:
        return Side(basis, values.real.clone(), given.all(-1))
    basis = torch.where(given[:, None], basis.double(), 0.0)
    image = quotient(operator, transposed)(basis)
    residual, form = outside(basis, image, values)
    gram = basis.mT @ basis - torch.diag_embed(given.double())
    constant = basis.sum(-2).abs() / basis.shape[-2] ** 0.5
    sound = (
        ((gram.abs().amax(-1) <= ORTHONORMAL) & (constant <= ORTHONORMAL)).all(-1)
        & (residual <= tolerance * values.abs().nan_to_num(nan=0.0).clamp(min=0.1)).all(-1)
        & (_disagreement(form, values) <= AGREES).all(-1)
    )
    return Side(basis, residual, sound)


def outside(basis: Tensor, image: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """What the image of each vector of an orthonormal basis Q (h, N, m) has outside of the span up to it, and QᵀAQ.

    The two vectors of a conjugate pair of the values (h, m) count as one step.
    """
    form = basis.mT @ image
    first = (values.imag > 0)[:, :-1].double()
    pair = torch.diag_embed(first, -1) if values.shape[-1] > 1 else torch.zeros_like(form)
    rest = torch.cat([image - basis @ form, form.tril(-1) * (1 - pair)], -2)
    return torch.linalg.vector_norm(rest, dim=-2), form


def _disagreement(form: Tensor, values: Tensor) -> Tensor:
    """How far eigenvalues of the diagonal blocks of M (h, m, m) are from the values (h, m), each."""
    diagonal = form.diagonal(dim1=-2, dim2=-1)
    first, second = values.imag > 0, values.imag < 0
    after, before = diagonal.roll(-1, -1), diagonal.roll(1, -1)
    middle = torch.where(first, (diagonal + after) / 2, torch.where(second, (diagonal + before) / 2, diagonal))
    off = (middle - values.real).abs()
    if values.shape[-1] > 1:
        product = form.diagonal(1, -2, -1) * form.diagonal(-1, -2, -1)
        size = (diagonal[:, :-1] * diagonal[:, 1:] - product).abs().sqrt()
        of_pair = torch.where(first[:, :-1], (size - values.abs()[:, :-1]).abs(), 0.0)
        off[:, :-1] = off[:, :-1] + of_pair
    return off.nan_to_num(nan=0.0)


def error_bound(given: Tensor, values: Tensor, distance: Tensor) -> Tensor:
    """``Modes.bound`` of given values (h, m), NaN beyond what there is, from all located ones (h, N−1)."""
    m = given.shape[-1]
    here = ~torch.isnan(given.real)
    own = torch.where(here, distance[:, :m] + (given - values[:, :m]).abs(), 0.0)
    beyond = torch.arange(values.shape[-1], device=values.device) >= here.sum(-1, keepdim=True)
    smallest = torch.where(here, given.abs(), torch.inf).amin(-1, keepdim=True) if m else values.abs() + torch.inf
    rest = torch.where(beyond, values.abs() + distance - smallest, 0.0)
    rest = torch.where(here.any(-1, keepdim=True), rest, 0.0)
    return torch.cat([own, rest, distance.new_zeros(len(distance), 1)], -1).amax(-1).clamp(min=0)
