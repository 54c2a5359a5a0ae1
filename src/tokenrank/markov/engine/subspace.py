"""The dominant eigenvalue of many matrices at once, by subspace iteration: a block of vectors, multiplied and turned.

Where few eigenvalues are as large as the first, as in most heads of attention, a dozen products of a wide block are
enough, and all of it is batched over heads. Those that need more are squared, again and again, while that is cheap:
four products with M²⁵⁶ are a thousand steps. What does not settle is left to a Krylov space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import constants
from .eigenvalues import eigen
from .krylov import Apply

Settled = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dominant:
    """Of those heads that settled.

    Attributes:
        heads: which they are, (k,).
        value: |θ| of the Ritz value of largest modulus, float64 (k,).
        residual: ‖M y − θ y‖₂ of its unit vector y, as the working precision sees it, (k,).
        condition: the larger of two estimates of the condition number of θ, (k,): that of the projection, and what the
            random start had of y: wᴴX / wᴴy with the left vector w, ‖w‖ / |wᴴy| on average.
        vector: y, real and imaginary part, (k, N, 2) in float64.
        left: the heads that did not settle.
        applies: products with M.
    """

    heads: Tensor
    value: Tensor
    residual: Tensor
    condition: Tensor
    vector: Tensor
    left: Tensor
    applies: int


def dominant(
    apply_for: Callable[[Tensor], Apply], matrix_for: Callable[[Tensor], Tensor] | None, start: Tensor, settled: Settled
) -> Dominant:
    """The eigenvalue of largest modulus of every matrix M (h, N, N), as far as powers of it tell.

    Powers are taken in single precision and only say where to look: θ and its residual are those of M itself.

    Args:
        apply_for: heads (k,) → M of these heads, (k, N, b) → (k, N, b).
        matrix_for: heads (k,) → Mᵀ of these heads in memory, (k, N, N); None where squares cost too much.
        start: X, (h, N, b), independent normal numbers.
        settled: |θ|, residual and condition → which are good enough, bool; asked with a condition of one first.

    Source: Saad, "Numerical methods for large eigenvalue problems" (2011), chapter 5 (subspace iteration with
    projection).
    """
    b = start.shape[-1]
    active = torch.arange(len(start), device=start.device)
    apply = step = apply_for(active)
    block, squares, doublings = start, None, 0
    # Mᵖ X = Q R exp(log): what the start had of an eigenvector is read off R
    carried = torch.eye(b, dtype=torch.float64, device=start.device).expand(len(start), b, b)
    log, scale, power, applies = carried.new_zeros(len(start)), carried.new_zeros(len(start)), 0, 0
    parts: list[tuple[Tensor, ...]] = []
    for turn in range(constants.SUBSPACE_TURNS):
        if turn >= constants.SUBSPACE_PLAIN and matrix_for is not None:
            squares = matrix_for(active) if squares is None else squares
            for _ in range(constants.SUBSPACE_SQUARINGS):
                squares, scale, doublings = *_squared(squares, scale), doublings + 1
            step = _product(squares)
        for _ in range(constants.SUBSPACE_STEPS):
            block, applies = step(block), applies + 1
        power += constants.SUBSPACE_STEPS * 2**doublings
        log = log + constants.SUBSPACE_STEPS * scale
        q, r = torch.linalg.qr(block)
        carried = r.double() @ carried
        size = torch.linalg.matrix_norm(carried).clamp(min=constants.TINY)
        carried, log = carried / size[:, None, None], log + size.log()
        ritz = _ritz(q, apply(q), carried, log, power, settled)
        done = ritz.settled
        parts.append((active[done], ritz.modulus[done], ritz.residual[done], ritz.condition[done], ritz.vector[done]))
        active, block, carried, log, scale = active[~done], q[~done], carried[~done], log[~done], scale[~done]
        applies += 1
        if not len(active):
            break
        if bool(done.any()):
            squares = None if squares is None else squares[~done]
            apply = apply_for(active)
            step = apply if squares is None else _product(squares)
    heads, *numbers = (torch.cat(part) for part in zip(*parts, strict=True))
    value, residual, condition, vector = numbers
    return Dominant(heads, value, residual, condition, vector, active, applies)


def _squared(matrices: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """M² / ‖M²‖ of matrices that stand for M exp(scale), and the logarithm of what is left out."""
    matrices = matrices @ matrices
    size = torch.linalg.matrix_norm(matrices).clamp(min=torch.finfo(matrices.dtype).tiny)
    return matrices / size[:, None, None], 2 * scale + size.double().log()


def _product(transposed: Tensor) -> Apply:
    """M x from Mᵀ, in the order in which that lies in memory."""
    return lambda x: (x.mT @ transposed).mT


@dataclass(frozen=True)
class _Ritz:
    settled: Tensor
    modulus: Tensor
    residual: Tensor
    condition: Tensor
    vector: Tensor


def _ritz(q: Tensor, image: Tensor, carried: Tensor, log: Tensor, power: int, settled: Settled) -> _Ritz:
    """The leading Ritz pair in the span of Q (h, N, b), of which the image M Q is known; see ``Dominant``."""
    b = q.shape[-1]
    values, vectors = eigen((q.mT @ image).double())
    lead = values.abs().argmax(-1, keepdim=True)
    theta, right = values.gather(-1, lead), vectors.gather(-1, lead[..., None].expand(-1, b, -1))
    real = torch.cat([right.real, right.imag], -1).to(q.dtype)
    y, moved = (q @ real).double(), (image @ real).double()
    turned = theta.real[..., None] * y + theta.imag[..., None] * torch.stack([-y[..., 1], y[..., 0]], -1)
    residual = torch.linalg.matrix_norm(moved - turned).nan_to_num(nan=torch.inf)
    modulus, condition = theta[:, 0].abs(), torch.full_like(residual, torch.inf)
    near = settled(modulus, residual, torch.ones_like(residual)).nonzero()[:, 0]
    if len(near):
        rows = _left(vectors[near], lead[near])
        seen = torch.linalg.matrix_norm(rows @ carried[near].to(rows.dtype)) / b**0.5
        seen = seen * (log[near] - power * modulus[near].log()).exp()
        condition[near] = torch.maximum(torch.linalg.matrix_norm(rows), seen).nan_to_num(nan=torch.inf)
    return _Ritz(settled(modulus, residual, condition), modulus, residual, condition, y)


def _left(vectors: Tensor, which: Tensor) -> Tensor:
    """One row of the inverse of each matrix of eigenvectors (k, b, b), the left vector with lᴴy = 1: (k, 1, b)."""
    q, r = torch.linalg.qr(vectors)
    unit = torch.zeros(vectors.shape[:2], dtype=vectors.dtype, device=vectors.device).scatter_(-1, which, 1.0)
    row = torch.linalg.solve_triangular(r, unit[:, None], upper=True, left=False)
    return row @ q.mH
