"""Spectrum: leading eigenvalues and the slow subspaces that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Dense, Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import head_groups
from .engine.eigenvalues import by_modulus, cuts_pair, quotient_matrix, real_basis
from .engine.krylov import KrylovSpace, centred, quotient
from .engine.triangular import triangular_vectors
from .result import Result
from .stationary import stationary

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}  # residual that counts as settled, relative to max(|λ|, 0.1)


@dataclass(frozen=True, repr=False)
class Spectrum(Result):
    """The slow end of the spectrum of every chain.

    Attributes:
        values: λ₁ = 1, λ₂, …, complex128 (*batch, K). Moduli descending, larger real parts first among equal ones;
            the two of a conjugate pair are neighbours, positive imaginary part first; NaN beyond ``count``.
        count: how many are given, (*batch): k, or k + 1 where k would cut a pair, or N if that is less.
        right: orthonormal basis of the right invariant subspace, A Q = Q T, float64 (*batch, N, K). Its first
            column is constant; every leading part that cuts no pair is invariant itself; zero beyond ``count``.
        left: the same for Aᵀ, its first column along π; None unless asked for.
        right_residual: how far the image of each right basis vector leads out of the basis up to it, ‖(I − QQᵀ) A q‖₂
            modulo constants, (*batch, K); 0 for λ₁.
        left_residual: the same for Aᵀ and the left subspace; for λ₁ that of π. None unless asked for.
        certificate: ``residual`` is the largest of both sides, (*batch). Uncertain where one stayed above the
            tolerance, as it does where eigenvalues of one modulus form a ring; values and subspaces are then
            estimates. No error bound.
    """

    AXES = ("eigenvalue",)
    OVER_TOKENS = (("right", -2), ("left", -2))

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


@dataclass(frozen=True)
class Modes:
    """One side of one group, without λ₁: values (h, K−1), basis (h, N, K−1), residuals, settled (h,), applies."""

    values: Tensor
    basis: Tensor
    residual: Tensor
    settled: Tensor
    applies: int


def spectrum(operator: Operator, k: int, left: bool = False, seed: int = 0) -> Spectrum:
    """The k leading eigenvalues of every head, with right and left invariant subspaces.

    Args:
        operator: (*batch, N, N).
        k: how many, λ₁ = 1 counted, from 1; a conjugate pair is never cut, so that k + 1 may come back.
        left: also the left subspace, whose first vector is the stationary distribution.
        seed: of the random start.

    A 1 = 1, so X ↦ AX − mean(AX) has the spectrum {0, λ₂, …}, and the constant vector together with an invariant
    subspace of that map is one of A. Block Arnoldi on it with thick restarts, for the heads that need them;
    values and residuals are computed once more in float64 from the basis found (Rayleigh–Ritz). Triangular chains
    have their eigenvalues on the diagonal and their vectors by substitution.

    Raises:
        ChainError: k below 1.
    """
    if k < 1:
        raise ChainError(f"k = {k!r} eigenvalues, expected at least 1; λ₁ = 1 counts")
    groups = [g for _, g in head_groups(operator, torch.float64)]
    right = _joined([_modes(g, k, False, seed) for g in groups])
    other = _joined([_modes(g, k, True, seed) for g in groups]) if left else None
    return _assembled(operator, right, other)


def _modes(operator: Operator, k: int, transposed: bool, seed: int) -> Modes:
    """λ₂ … of one side: a basis found somehow, then values and residuals from it."""
    n = operator.num_tokens
    wanted = min(k, n) - 1
    if operator.structure != "full":
        basis, applies = triangular_vectors(operator, wanted, transposed), 1
        counts = torch.full((len(basis),), wanted, device=basis.device)
    elif n <= constants.ALL_EIGENVALUES or 2 * wanted >= n:  # a Krylov space of most dimensions is no shorter way
        basis, counts = _all_eigenvalues(operator, wanted, transposed)
        applies = n
    else:
        basis, counts, applies, given_up = _krylov(operator, wanted, transposed, seed)
        if len(given_up) and n <= constants.SPECTRUM_STUBBORN:
            basis = basis.double()
            basis[given_up], counts[given_up] = _all_eigenvalues(operator.index(given_up), wanted, transposed)
            applies += n
    # one matrix has one number of values; the heads of each number are refined together
    parts = [((counts == c).nonzero()[:, 0], int(c)) for c in counts.unique()]
    found = [_refined(operator.index(heads), basis[heads, :, :c].double(), transposed) for heads, c in parts]
    order = torch.cat([heads for heads, _ in parts]).argsort()
    whole = _joined(found)
    return Modes(whole.values[order], whole.basis[order], whole.residual[order], whole.settled[order], applies + 1)


def _all_eigenvalues(operator: Operator, count: int, transposed: bool) -> tuple[Tensor, Tensor]:
    """A basis (h, N, count + 1) of the slow subspace and how much of it is one (h,), by LAPACK in float64."""
    n = operator.num_tokens
    a = operator.to_dense(torch.float64)
    # the reflection that takes the first axis to the constant vector; its other columns span the rest
    v = torch.full((n, 1), n**-0.5, dtype=a.dtype, device=a.device)
    v[0] -= 1
    rest = (torch.eye(n, dtype=a.dtype, device=a.device) - 2 * v @ v.mT / (v.mT @ v).clamp(min=1e-300))[:, 1:]
    quotient = rest.mT @ quotient_matrix(a) @ rest
    values, vectors = torch.linalg.eig(quotient.mT if transposed else quotient)
    order = by_modulus(values)[:, : count + 1]
    values, vectors = values.gather(-1, order), vectors.gather(-1, order[:, None].expand(-1, n - 1, -1))
    return rest @ real_basis(values, vectors), _pairs_whole(values, count)


def _pairs_whole(values: Tensor, count: int) -> Tensor:
    """``count``, or one more where the ordered values (h, > count) would end between the two of a pair, (h,)."""
    return count + cuts_pair(values, count).long()


def _krylov(operator: Operator, count: int, transposed: bool, seed: int) -> tuple[Tensor, Tensor, int, Tensor]:
    """A basis (h, N, count + 1) of the slow subspace, how much of it is one (h,), applies, heads given up."""
    heads, n = operator.shape[:2]
    width = 2 if isinstance(operator, Dense) else 8
    keep = 2 * -(-(count + 8) // 2)
    capacity = min(max(2 * keep, 96), n - 2 * width) // width * width
    keep = min(keep, capacity // 4 * 2)
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(n, width, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    space = KrylovSpace(centred(block).expand(heads, -1, -1), capacity)
    basis = torch.zeros(heads, n, count + 1, dtype=operator.dtype, device=operator.device)
    counts = torch.zeros(heads, dtype=torch.long, device=operator.device)
    active, part, applies = torch.arange(heads, device=operator.device), operator, 0
    for restart in range(constants.SPECTRUM_RESTARTS + 1):
        apply = quotient(part, transposed)
        while not space.full:
            space.extend(apply)
            applies += 1
        values, residual, vectors = space.ritz(count + 1)
        whole = _pairs_whole(values, count)
        beyond = torch.arange(count + 1, device=whole.device) >= whole[:, None]
        loose = residual > TOLERANCE[operator.dtype] * values.abs().clamp(min=0.1)
        unsettled = (loose & ~beyond).any(-1)
        done = ~unsettled if restart < constants.SPECTRUM_RESTARTS else torch.ones_like(unsettled)
        coordinates = real_basis(values[done], vectors[done])
        basis[active[done]] = (coordinates.mT @ space.select(done).basis.mT[:, : space.dimension]).mT
        counts[active[done]] = whole[done]
        if bool(done.all()):
            break
        active, space = active[~done], space.select(~done).restart(keep)
        part = operator.index(active)
    return basis, counts, applies, active[unsettled]


def _refined(operator: Operator, basis: Tensor, transposed: bool) -> Modes:
    """Rayleigh–Ritz in float64, in order."""
    basis = _orthonormal(basis)
    image = quotient(operator, transposed)(basis)
    values, vectors = torch.linalg.eig(basis.mT @ image)
    order = by_modulus(values)
    values = values.gather(-1, order)
    u = real_basis(values, vectors.gather(-1, order[:, None].expand_as(vectors)))
    basis, image = basis @ u, image @ u
    # what leads out of the first columns is the residual: out of the basis, or (where eigenvectors are almost
    # parallel, so that their span is ill defined) into later columns of it
    projection = basis.mT @ image
    outside = image - basis @ projection
    pair = torch.diag_embed((values.imag > 0).double()[:, :-1], -1)
    inside = projection.tril(-1) * (1 - pair)
    residual = torch.linalg.vector_norm(torch.cat([outside, inside], -2), dim=-2)
    allowed = max(1e-7, 10 * TOLERANCE[operator.dtype]) * values.abs().clamp(min=0.1)
    return Modes(values, basis, residual, (residual <= allowed).all(-1), 1)


def _orthonormal(basis: Tensor) -> Tensor:
    """The basis (h, N, m) orthogonal to the constant vector, too; directions that are lost are replaced."""
    basis = centred(basis)
    size = torch.linalg.vector_norm(basis, dim=-2, keepdim=True)
    if bool((size < 1e-6).any()):  # a null vector may be the constant one
        generator = torch.Generator().manual_seed(0)
        fresh = torch.randn(basis.shape[1:], generator=generator, dtype=torch.float64).to(basis.device)
        basis = torch.where(size < 1e-6, centred(fresh), basis)
    return torch.linalg.qr(basis).Q


def _joined(groups: list[Modes]) -> Modes:
    """Modes of several groups of heads, one after the other, as wide as the widest."""
    width = max(m.values.shape[-1] for m in groups)
    wide = [_padded(m, width) for m in groups]
    return Modes(
        torch.cat([m.values for m in wide]),
        torch.cat([m.basis for m in wide]),
        torch.cat([m.residual for m in wide]),
        torch.cat([m.settled for m in wide]),
        max(m.applies for m in wide),
    )


def _assembled(operator: Operator, right: Modes, left: Modes | None) -> Spectrum:
    """λ₁ and its vectors in front of the modes."""
    heads, n = right.basis.shape[:2]
    one = torch.ones(heads, 1, dtype=torch.float64, device=operator.device)
    values = torch.cat([one.to(torch.complex128), right.values], -1)
    basis = torch.cat([one[:, None].expand(-1, n, -1) / n**0.5, right.basis], -1)
    residual = torch.cat([0 * one, right.residual], -1)
    settled, applies = right.settled, right.applies
    left_basis = left_residual = None
    if left is not None:
        even = torch.full((n,), 1 / n, dtype=torch.float64, device=operator.device)
        pi = stationary(operator, 1.0, even, 1e-10, constants.SPECTRUM_STATIONARY_APPLIES)
        first = pi.values.reshape(heads, n, 1)
        together = torch.cat([first, left.basis], -1)
        q, r = torch.linalg.qr(together)
        left_basis = (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).masked_fill((together == 0).all(-2)[:, None], 0)
        left_residual = torch.cat([pi.certificate.residual.reshape(heads, 1), left.residual], -1)
        settled = settled & left.settled & pi.certificate.converged.reshape(heads)
        applies += left.applies + pi.certificate.applies

    largest = (residual if left_residual is None else torch.cat([residual, left_residual], -1)).amax(-1)

    def shaped(x: Tensor) -> Tensor:
        return x.reshape((*operator.batch, *x.shape[1:]))

    return Spectrum(
        values=shaped(values),
        count=shaped((~torch.isnan(values.real)).sum(-1)),
        right=shaped(basis),
        left=None if left_basis is None else shaped(left_basis),
        right_residual=shaped(residual),
        left_residual=None if left_residual is None else shaped(left_residual),
        certificate=Certificate(shaped(settled), shaped(largest), None, applies, _method(operator)),
    )


def _method(operator: Operator) -> str:
    if operator.structure != "full":
        return "substitution"
    return "eigenvalues" if operator.num_tokens <= constants.ALL_EIGENVALUES else "arnoldi"


def _padded(modes: Modes, width: int) -> Modes:
    missing = width - modes.values.shape[-1]
    if not missing:
        return modes

    def wider(x: Tensor, fill: float) -> Tensor:
        return torch.cat([x, x.new_full((*x.shape[:-1], missing), fill)], -1)

    values = wider(modes.values, float("nan"))
    return Modes(values, wider(modes.basis, 0.0), wider(modes.residual, 0.0), modes.settled, modes.applies)
