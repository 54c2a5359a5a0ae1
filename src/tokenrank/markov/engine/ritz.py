"""Ritz pairs of projections M = QᵀAQ in an orthonormal basis that goes on: small matrices, taken on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .eigenvalues import by_modulus, eigen, eigenvalues, real_basis, whole_pairs
from .lu import factor as lu_factor


@dataclass(frozen=True)
class Ritz:
    """The dominant Ritz value of every head.

    Attributes:
        value: θ, complex (h,).
        residual: ‖M y − θ y‖₂ for the unit Ritz vector y, (h,), as the recurrence sees it.
        condition: 1 / |wᴴy| with the unit left vector w, (h,), of the projection: to first order θ is off by up to
            condition · residual. That of M itself may be larger. inf where the residual is not small.
        seen: how much of y a start of independent normal numbers has, (h,): on average the condition number of M
            itself, as left vectors that lie outside of the space are seen by the start, too.
        coordinates: y in the basis, complex (h, m, 1).
    """

    value: Tensor
    residual: Tensor
    condition: Tensor
    seen: Tensor
    coordinates: Tensor


def ritz(projection: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The leading eigenvalues of every projection (h, m + b, m) in order.

    Returns values, residuals and condition numbers (h, count), coordinates (h, m, count).
    """
    m = projection.shape[-1]
    values, vectors = eigen(projection[:, :m])
    order = by_modulus(values)
    values = values.gather(-1, order)
    vectors = vectors.gather(-1, order[:, None].expand(-1, m, -1))
    q, r = torch.linalg.qr(vectors)
    left = torch.linalg.solve_triangular(r, q.mH, upper=True)[:, :count]
    condition = torch.linalg.vector_norm(left, dim=-1).nan_to_num(nan=torch.inf, posinf=torch.inf)
    vectors = vectors[..., :count]
    outside = projection[:, m:].to(vectors.dtype) @ vectors
    return values[:, :count], torch.linalg.vector_norm(outside, dim=-2), condition, vectors


def leading_basis(projection: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (h, m, keep), an orthonormal basis of the leading Ritz vectors, Uᵀ S U, and what leads out of it, (h, b, keep).

    ``keep`` and m are even, so that no conjugate pair needs to be cut.
    """
    m = projection.shape[-1]
    square, below = projection[:, :m], projection[:, m:]
    values, vectors = eigen(square)
    order = whole_pairs(values, by_modulus(values), keep)[:, :keep]
    u = real_basis(values.gather(-1, order), vectors.gather(-1, order[:, None].expand(-1, m, -1)))
    return u, u.mT @ square @ u, below @ u


def leading(projection: Tensor, factor: Tensor, generator: torch.Generator, small: float = torch.inf) -> Ritz:
    """Leading eigenpair of every projection, by all eigenvalues of it on the host.

    Args:
        projection: M in an orthonormal basis, (h, m + b, m).
        factor: the start of the space in its first b vectors, (h, b, b).
        generator: of a start of inverse iteration, on the host.
        small: residual up to which condition numbers are looked at.
    """
    m, width = projection.shape[-1], factor.shape[-1]
    square = projection[:, :m]
    values = eigenvalues(square)
    theta = values.gather(-1, values.abs().argmax(-1, keepdim=True))
    # inverse iteration, a touch beside the eigenvalue: eigenvalues alone come at half the price
    eps = torch.finfo(square.dtype).eps
    shifted = square.to(theta.dtype) - torch.diag_embed((theta + 10 * eps * theta.abs().clamp(min=eps)).expand(-1, m))
    start = torch.randn(m, 1, generator=generator, dtype=torch.float64).to(shifted)
    factors = [lu_factor(one) for one in shifted.mT.contiguous().mT]  # by columns: adjoints need no conjugates
    right = torch.stack([_null_vector(lu.solve, start) for lu in factors])
    outside = projection[:, m:].to(right.dtype) @ right
    inside = square.to(right.dtype) @ right - theta[..., None] * right
    residual = torch.linalg.vector_norm(torch.cat([inside, outside], -2)[..., 0], dim=-1)
    residual = residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
    condition, seen = residual.new_full((2, len(residual)), torch.inf).unbind()
    for head in (residual <= small).nonzero()[:, 0].tolist():
        left = _null_vector(factors[head].solve_adjoint, start)
        overlap = (left.mH @ right[head]).abs()[0, 0]
        # what a random start has of y is wᴴX / wᴴy with the left vector w of M itself, ‖w‖ / |wᴴy| on average
        found = torch.linalg.matrix_norm(left.mH[:, :width] @ factor[head].to(left.dtype))
        condition[head], seen[head] = 1 / overlap, found / width**0.5 / overlap
    return Ritz(
        theta[:, 0],
        residual,
        condition.nan_to_num(nan=torch.inf, posinf=torch.inf),
        seen.nan_to_num(nan=torch.inf, posinf=torch.inf),
        right,
    )


def _null_vector(solve: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Null vector (m, 1), of length one, of an almost singular matrix, by inverse iteration."""
    x = start
    for _ in range(2):
        x = solve(x)
        x = x / torch.linalg.vector_norm(x)
    return x
