"""Spectrum: leading eigenvalues and the slow subspaces that belong to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .eigen.modes import ORTHONORMAL, Modes, joined, outside
from .eigen.slow_modes import slow_modes
from .engine import constants
from .engine.batching import told_groups
from .result import Result
from .stationary import stationary

SPANNED = 1e-4  # what AᵀQ may have outside of the left subspace: as much as single precision lets a mode have


@dataclass(frozen=True, repr=False)
class Spectrum(Result):
    """The slow end of the spectrum of every chain.

    Attributes:
        values: λ₁ = 1, λ₂, …, complex128 (*batch, K). Moduli descending, larger real parts first among equal ones;
            the two of a conjugate pair are neighbours, positive imaginary part first; NaN beyond ``count``.
        count: how many are given, (*batch): k, or k + 1 where k would cut a pair, or N if that is less;
            one fewer where rounding makes a pair of the last two, as of zeros.
        right: orthonormal basis of the right invariant subspace, A Q = Q T, float64 (*batch, N, K). Its first
            column is constant; every leading part that cuts no pair is invariant itself; zero beyond ``count``.
        left: the same for Aᵀ, its first column along π; None unless asked for.
        right_residual: how far the image of each right basis vector leads out of the basis up to it, ‖(I − QQᵀ) A q‖₂
            modulo constants, (*batch, K); 0 for λ₁.
        left_residual: the same for Aᵀ and the left subspace; for λ₁ that of π, if it is larger. None unless asked for.
        certificate: ``residual`` is the largest of both sides, (*batch). ``error_bound`` is proved where all
            eigenvalues were taken or the diagonal has them: every value has an eigenvalue of its own no farther away,
            and those that are not given are no larger than the last one by more; inf where only a Krylov space was
            made. Uncertain where the bound is above 5e-4; where there is none and a residual times the largest
            condition number is; and where a basis is not orthonormal, not invariant or not that of the values, as
            happens where eigenvalues of one modulus form a ring. Values and subspaces are then estimates.
    """

    AXES = ("eigenvalue",)
    OVER_TOKENS = (("right", -2), ("left", -2))
    LABELS = (
        ("values", "λ"),
        ("count", "how many"),
        ("right", "right subspace"),
        ("left", "left subspace"),
        ("right_residual", "residuals, right"),
        ("left_residual", "residuals, left"),
    )

    values: Tensor
    count: Tensor
    right: Tensor
    left: Tensor | None
    right_residual: Tensor
    left_residual: Tensor | None
    certificate: Certificate

    @property
    def timescales(self) -> Tensor:
        """Implied timescales −1 / log|λ| in bounces, (*batch, K): ∞ for modulus one."""
        return 1 / self.values.abs().clamp(max=1).log().abs()

    @property
    def gap(self) -> Tensor:
        """1 − |λ₂|, (*batch); 1 for a chain of one token."""
        if self.values.shape[-1] < 2:
            return torch.ones_like(self.right_residual[..., 0])
        return 1 - self.values[..., 1].abs().nan_to_num(nan=0.0)


def spectrum(operator: Operator, k: int, left: bool = False, seed: int = 0) -> Spectrum:
    """The k leading eigenvalues of every head, with right and left invariant subspaces.

    Args:
        operator: (*batch, N, N).
        k: how many, λ₁ = 1 counted, from 1; a conjugate pair is never cut, so that k + 1 may come back.
        left: also the left subspace, whose first vector is the stationary distribution.
        seed: of the random start.

    Up to 128 tokens all eigenvalues are taken, class by class, with proved discs about them
    (``eigen/located.py``), and subspaces from LAPACK's vectors. Triangular chains have their eigenvalues on the
    diagonal and their vectors by substitution. Beyond: A 1 = 1, so X ↦ AX − mean(AX) has the spectrum {0, λ₂, …},
    and the constant vector together with an invariant subspace of that map is one of A. Block Arnoldi on it with
    thick restarts, for the heads that need them; values and residuals are computed once more in float64 from the
    basis found (Rayleigh–Ritz).

    Every basis is measured on the way out. Where vectors are almost parallel, or repeated, so that their span is no
    subspace, that head gets a real Schur form of its own, whose vectors are orthonormal by construction.

    Raises:
        ChainError: k below 1.
    """
    if k < 1:
        raise ChainError(f"k = {k!r} eigenvalues, expected at least 1; λ₁ = 1 counts")
    flat = operator.reshape(math.prod(operator.batch))
    wanted = min(k, operator.num_tokens) - 1
    if flat.path == "device":  # nothing is built there: products in single precision, measured in double
        return _assembled(operator, slow_modes(flat, flat, wanted, left, seed))
    groups = [
        slow_modes(group, flat.index(part), wanted, left, seed)
        for part, group in told_groups(operator, torch.float64, "spectrum")
    ]
    return _assembled(operator, joined(groups))


def _assembled(operator: Operator, modes: Modes) -> Spectrum:
    """λ₁ and its vectors in front of the modes."""
    heads, n = modes.right.basis.shape[:2]
    bound = torch.where(modes.bound < 1, modes.bound, torch.inf)  # moduli are 1 at most
    width, bounded = 0, False
    if modes.told is not None:
        width, bounded = modes.told
    elif heads:  # both in one look
        width, bounded = torch.stack([modes.count.max(), torch.isfinite(bound).any().long()]).tolist()
    one = torch.ones(heads, 1, dtype=torch.float64, device=operator.device)
    values = torch.cat([one.to(torch.complex128), modes.values[:, :width]], -1)
    basis = torch.cat([one[:, None].expand(-1, n, -1) / n**0.5, modes.right.basis[..., :width]], -1)
    residual = torch.cat([0 * one, modes.right.residual[:, :width]], -1)
    certain, applies = modes.certain, modes.applies
    left_basis = left_residual = None
    if modes.left is not None:
        left_basis, left_residual, sound, spent = _with_stationary(operator, modes.left.basis[..., :width], values)
        certain, applies = certain & sound, applies + spent
    largest = (residual if left_residual is None else torch.cat([residual, left_residual], -1)).amax(-1)

    def shaped(x: Tensor) -> Tensor:
        return x.reshape((*operator.batch, *x.shape[1:]))

    told = shaped(bound) if bounded else None
    return Spectrum(
        values=shaped(values),
        count=shaped(1 + modes.count),
        right=shaped(basis),
        left=None if left_basis is None else shaped(left_basis),
        right_residual=shaped(residual),
        left_residual=None if left_residual is None else shaped(left_residual),
        certificate=Certificate(shaped(certain), shaped(largest), told, applies, modes.method, about=operator.source),
    )


def _with_stationary(operator: Operator, basis: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """π in front of left vectors (h, N, m) of sum zero: orthonormal (h, N, m + 1), its residuals, sound, applies.

    The vectors were measured without π; what is told is measured on the basis that they are together.
    """
    heads, n = basis.shape[:2]
    even = torch.full((n,), 1 / n, dtype=torch.float64, device=operator.device)
    pi = stationary(operator, 1.0, even, 1e-10, constants.SPECTRUM_STATIONARY_APPLIES)
    together = torch.cat([pi.values.double().reshape(heads, n, 1), basis], -1)
    given = ~(together == 0).all(-2)
    q, r = torch.linalg.qr(together)
    q = (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).masked_fill(~given[:, None], 0)
    image = operator.reshape(heads).T @ q
    residual, form = outside(q, image, values)
    beyond = torch.linalg.vector_norm(image - q @ form, dim=-2).amax(-1)
    gram = (q.mT @ q - torch.diag_embed(given.double())).abs().amax((-2, -1))
    # to the residual that is let pass below: π and every other vector were measured on their own
    sound = (gram <= ORTHONORMAL) & (beyond <= SPANNED) & pi.certificate.converged.reshape(heads)
    residual[:, 0] = torch.maximum(residual[:, 0], pi.certificate.residual.double().reshape(heads))
    return q, residual, sound, pi.certificate.applies
