"""Eigenvalues in one explicit order, without the 1 of the constant vector; real bases that never cut a pair."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]

TIE = 1e-10  # moduli closer than this count as equal
TURNS = 4  # random similarities tried where LAPACK gives up
BASIS = 1e6  # norm of the inverse up to which vectors are taken for a basis
RESIDUAL = 1e-10  # of the norm of the matrix: what backward stable answers are far below


def quotient_matrix(a: Tensor) -> Tensor:
    """A − 1 (mean row), (h, N, N): the eigenvalues of A with one 1 replaced by 0.

    What is left of equal rows is rounding, of which LAPACK may find no eigenvalues at all; it is set to zero.
    """
    mean = a.mean(-2, keepdim=True)
    rest = a - mean
    return rest.masked_fill(rest.abs() <= 4 * torch.finfo(a.dtype).eps * (a + mean), 0.0)


def deflated(a: Tensor) -> Tensor:
    """A on the quotient by the constant vectors, (h, N−1, N−1): all eigenvalues but one 1.

    HAH without its first row and column, H the reflection that takes the first axis to the constant vector.
    """
    v = reflector(a.shape[-1]).to(a)
    a = quotient_matrix(a)
    a = a - v * (v.mT @ a)
    return (a - (a @ v) @ v.mT)[:, 1:, 1:]


def reflector(n: int) -> Tensor:
    """v (n, 1) in float64 with H = I − v vᵀ orthogonal and its first column constant."""
    v = torch.full((n, 1), n**-0.5, dtype=torch.float64)
    v[0] -= 1
    return v * (2 / v.square().sum().clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def lifted(x: Tensor) -> Tensor:
    """Coordinates (h, N−1, c) of ``deflated`` as vectors orthogonal to the constant one, (h, N, c)."""
    x = torch.cat([x.new_zeros(len(x), 1, x.shape[-1]), x], 1)
    v = reflector(x.shape[1]).to(x)
    return x - v @ (v.mT @ x)


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (h, m) and unit eigenvectors (h, m, m) of real matrices, by NumPy, one matrix after the other.

    PyTorch's LAPACK gives up on some chains that are nearly permutations, and may overwrite memory as it does.
    NumPy's may hand out a pair that is none. So each answer is held to its residual, and a matrix that fails is turned
    by a random orthogonal matrix and tried again; what fails even so has the values and vectors of no matrix, zeros
    and axes, which no residual check lets pass.
    """
    kind = matrix.dtype.to_complex()
    if not len(matrix):
        return matrix.new_zeros(matrix.shape[:2], dtype=kind), matrix.to(kind)
    found = [_eigen_of(one) for one in matrix.double().cpu().numpy()]
    values, vectors = (matrix.new_tensor(np.stack(parts), dtype=kind) for parts in zip(*found, strict=True))
    return values, vectors


def _eigen_of(matrix: Array) -> tuple[Array, Array]:
    """The first answer whose vectors are a basis, or the better of two: a defective matrix has none."""
    generator, m = np.random.default_rng(0), len(matrix)
    turn = np.eye(m)
    best: tuple[float, Array, Array] | None = None
    for attempt in range(1 + TURNS):
        try:
            values, vectors = np.linalg.eig(turn.T @ matrix @ turn)
        except np.linalg.LinAlgError:
            values, vectors = np.zeros(m), np.full((m, m), np.nan)
        vectors = turn @ vectors
        if np.abs(matrix @ vectors - vectors * values).max(initial=0.0) <= RESIDUAL * np.linalg.norm(matrix):
            size = _inverse_norm(vectors)
            if best is None or size < best[0]:
                best = size, values.astype(complex), vectors.astype(complex)
            if size <= BASIS or attempt:
                break
        turn = np.linalg.qr(generator.standard_normal((m, m))).Q
    return (np.zeros(m, complex), np.eye(m, dtype=complex)) if best is None else best[1:]


def _inverse_norm(vectors: Array) -> float:
    """‖V⁻¹‖ of unit vectors, as far as the eigenvalues of VᴴV tell it: up to 1e7 or so."""
    gram = vectors.conj().T @ vectors
    return float(max(np.linalg.eigvalsh(gram)[0], np.finfo(float).tiny) ** -0.5) if len(gram) else 1.0


def eigenvalues(matrix: Tensor) -> Tensor:
    """The eigenvalues alone, (h, m), at half the price; held to tr A and tr A², which they have to add up to."""
    if not len(matrix):
        return eigen(matrix)[0]
    found = [_eigenvalues_of(one) for one in matrix.double().cpu().numpy()]
    return matrix.new_tensor(np.stack(found), dtype=matrix.dtype.to_complex())


def _eigenvalues_of(matrix: Array) -> Array:
    try:
        values = np.linalg.eigvals(matrix).astype(complex)
    except np.linalg.LinAlgError:
        return _eigen_of(matrix)[0]
    off = max(abs(values.sum() - np.trace(matrix)), abs(np.square(values).sum() - np.sum(matrix * matrix.T)))
    size = np.linalg.norm(matrix)
    return values if off <= RESIDUAL * len(matrix) * max(size, size**2) else _eigen_of(matrix)[0]


def moduli(values: Tensor) -> Tensor:
    """|λ| of eigenvalues, the same to the last bit for both of a conjugate pair wherever they stand.

    ``abs`` is not: what fills a vector register and what is left over are computed by different functions.
    """
    return (values.real.square() + values.imag.square()).sqrt()


def within_circle(values: Tensor) -> Tensor:
    """Eigenvalues of a chain, none of which is longer than 1, moved onto the unit circle where rounding made them so.

    The disc is convex: no value gets farther from the eigenvalue that it stands for. Pairs stay conjugate.
    """
    size = moduli(values).clamp(min=1)
    return torch.complex(values.real / size, values.imag / size)


def paired(values: Tensor) -> tuple[Tensor, Tensor]:
    """Where the two of a conjugate pair are in values (h, m) in which they are neighbours: first and second, bool."""
    return values.imag > 0, values.imag < 0


def real_columns(values: Tensor, vectors: Tensor) -> Tensor:
    """Real columns (h, n, m) that span eigenvectors (h, n, m): a pair gives the real and the imaginary part."""
    return torch.where(values[:, None].imag < 0, vectors.imag, vectors.real)


def by_modulus(values: Tensor) -> Tensor:
    """Indices (h, m) that put eigenvalues (h, m) of real matrices in order.

    Moduli descending; among equal ones (neighbours no farther apart than ``TIE``) larger real parts first, and what is
    equal in both as it came. The two of a conjugate pair, which LAPACK hands out one after the other, are moved as one,
    positive imaginary part first: where they stand decides that they are a pair, not whether their bits are equal.
    """
    if not values.shape[-1]:
        return torch.zeros(values.shape, dtype=torch.long, device=values.device)
    place = torch.ones_like(values.real, dtype=torch.long).cumsum(-1) - 1
    single = values.imag == 0
    last_single = torch.where(single, place, -1).cummax(-1).values  # pairs are counted from there
    second = ~single & ((place - last_single) % 2 == 0)
    first = place - second.long()  # of the same pair; a single value is its own
    largest = moduli(values).gather(-1, first).sort(dim=-1, descending=True, stable=True)
    steps = (largest.values.diff(dim=-1) < -TIE).long().cumsum(-1)
    level = torch.nn.functional.pad(steps, (1, 0)).gather(-1, largest.indices.argsort(-1))  # equal moduli, one number
    order = (values.imag < 0).long().argsort(dim=-1, stable=True)  # the least of the keys first, the others over it
    for key in (first, -values.real.gather(-1, first), level):
        order = order.gather(-1, key.gather(-1, order).argsort(dim=-1, stable=True))
    return order


def cuts_pair(values: Tensor, count: int) -> Tensor:
    """Whether the first ``count`` of the ordered values (h, m) end between the two of a pair, (h,)."""
    kept = values[:, :count].imag
    return (kept > 0).sum(-1) != (kept < 0).sum(-1)


def whole_pairs(values: Tensor, order: Tensor, count: int) -> Tensor:
    """``order`` (h, m) changed so that its first ``count`` entries cut no pair: the next real value moves up.

    With m and ``count`` even there always is one.
    """
    order = order.clone()
    for head in cuts_pair(values.gather(-1, order), count).nonzero()[:, 0].tolist():
        later = order[head, count:]
        real = int((values[head, later].imag == 0).nonzero()[0]) + count
        order[head, count - 1], order[head, real] = order[head, real].item(), order[head, count - 1].item()
    return order


def real_basis(values: Tensor, vectors: Tensor) -> Tensor:
    """Orthonormal real basis (h, n, m) of the span of eigenvectors (h, n, m), nested in their order.

    A conjugate pair spans the real and the imaginary part of either of its vectors.
    """
    return torch.linalg.qr(real_columns(values, vectors)).Q
