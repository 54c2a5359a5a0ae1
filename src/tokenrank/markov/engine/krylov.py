"""Krylov spaces and GMRES, for a batch of heads whose members leave when they are done."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ...operators import Operator
from . import constants
from .eigenvalues import eigen
from .ritz import Ritz, leading, leading_basis, ritz

Apply = Callable[[Tensor], Tensor]


def centred(x: Tensor) -> Tensor:
    """Columns (…, N, c) less their means: orthogonal to the constant vector."""
    return x - x.mean(-2, keepdim=True)


def quotient(operator: Operator, transposed: bool) -> Apply:
    """A on the quotient by the constant vectors, or Aᵀ on the vectors of sum zero: one spectrum, without λ₁."""
    side = operator.T if transposed else operator
    return lambda x: centred(side @ x)


class KrylovSpace:
    """Orthonormal basis of span{X, M X, M² X, …} and M projected on it (block Arnoldi).

    Args:
        start: X, (h, N, b), real; M maps (h, N, b) to the same shape, column by column.
        capacity: dimension that the space may grow to.
    """

    def __init__(self, start: Tensor, capacity: int) -> None:
        heads, n, self.width = start.shape
        blocks = max(1, min(capacity, n - self.width) // self.width)
        self.capacity = blocks * self.width
        # one allocation: vectors in rows, the coefficients of M in columns
        self._vectors = start.new_empty(heads, self.capacity + self.width, n)
        self._coefficients = start.new_zeros(heads, self.capacity + self.width, self.capacity)
        first, self._factor = torch.linalg.qr(start)
        self._vectors[:, : self.width] = first.mT
        self.dimension = 0  # basis vectors that M has been applied to
        self._generator = torch.Generator().manual_seed(0)

    @property
    def full(self) -> bool:
        """No room for another block."""
        return self.dimension + self.width > self.capacity

    @property
    def basis(self) -> Tensor:
        """(h, N, dimension + b): the last block has not been mapped yet."""
        return self._vectors[:, : self.dimension + self.width].mT

    @property
    def projection(self) -> Tensor:
        """M in the basis: (h, dimension + b, dimension)."""
        return self._coefficients[:, : self.dimension + self.width, : self.dimension]

    def extend(self, apply: Apply) -> None:
        """One block more, one apply.

        Orthogonalised, normalised, and both once again. Directions in which the space is closed
        under M hold rounding only; random ones take their place, with no coupling to them.
        """
        known, b = self.dimension + self.width, self.width
        vectors = self._vectors[:, :known]
        # products with few rows on the left: the other way round they cost ten times as much on CPU
        w = apply(vectors[:, self.dimension :].mT).mT.contiguous()
        noise = 10 * torch.finfo(w.dtype).eps * torch.linalg.matrix_norm(w)
        first = w @ vectors.mT
        block, r = torch.linalg.qr((w - first @ vectors).mT)
        closed = r.diagonal(dim1=-2, dim2=-1).abs() <= noise[:, None]
        if bool(closed.any()):
            # a column that depends on earlier ones leaves a direction of noise, along which later columns still
            # have a part: singular vectors put what is lost last, and nothing else is lost with it
            turn, sizes, rest = torch.linalg.svd(r)
            block, r, closed = block @ turn, sizes[..., None] * rest, sizes <= noise[:, None]
            fresh = torch.randn(block.shape[1:], generator=self._generator).to(block)
            block = torch.where(closed[:, None], fresh / fresh.shape[0] ** 0.5, block)
            r = r.masked_fill(closed[..., None], 0.0)
        block = block.mT.contiguous()
        second = block @ vectors.mT
        block, r_again = torch.linalg.qr((block - second @ vectors).mT)
        column = self._coefficients[:, : known + b, self.dimension : known]
        column[:, :known], column[:, known:] = first.mT + second.mT @ r, r_again @ r
        self._vectors[:, known : known + b] = block.mT
        self.dimension = known

    def select(self, heads: Tensor) -> KrylovSpace:
        """The same space for some of the heads."""
        part = copy.copy(self)
        part._vectors, part._coefficients = self._vectors[heads], self._coefficients[heads]
        part._factor = self._factor[heads]
        return part

    @property
    def factor(self) -> Tensor:
        """The start in the first b vectors of the basis, (h, b, b)."""
        return self._factor

    def leading(self, small: float) -> Ritz:
        """Leading eigenpair of the projection, and the condition numbers of those whose residual is ``small``."""
        return leading(self.projection, self._factor, self._generator, small)

    def vector(self, coordinates: Tensor, heads: Tensor) -> Tensor:
        """The vectors (k, N, 2), real and imaginary part, of coordinates (k, m, 1) in the spaces of some heads."""
        basis = self._vectors[heads, : self.dimension]
        return torch.stack([(part.mT @ basis)[:, 0] for part in (coordinates.real, coordinates.imag)], -1)

    def restart(self, keep: int) -> KrylovSpace:
        """The space of the ``keep`` leading Ritz vectors and the block that comes next (thick restart).

        ``keep`` and the dimension are even, so that no conjugate pair needs to be cut.

        Source: Stewart, "A Krylov–Schur algorithm for large eigenproblems" (2001).
        """
        m, b = self.dimension, self.width
        u, form, rest = leading_basis(self.projection, keep)
        part = copy.copy(self)
        part._vectors, part._coefficients = torch.empty_like(self._vectors), torch.zeros_like(self._coefficients)
        part._vectors[:, :keep] = u.mT @ self._vectors[:, :m]
        part._vectors[:, keep : keep + b] = self._vectors[:, m : m + b]
        part._coefficients[:, :keep, :keep], part._coefficients[:, keep : keep + b, :keep] = form, rest
        part.dimension = keep
        return part

    def ritz(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The leading eigenvalues of the projection in order; see ``ritz``."""
        return ritz(self.projection, count)

    def span(self, coordinates: Tensor) -> Tensor:
        """The vectors (h, N, c) of real coordinates (h, m, c) in the basis, m = dimension."""
        return (coordinates.mT @ self._vectors[:, : self.dimension]).mT

    def leading_block(self) -> Tensor:
        """Real block (h, N, b) that spans the leading Ritz vectors, to go on from."""
        m, b = self.dimension, self.width
        values, vectors = eigen(self.projection[:, :m])
        order = values.abs().argsort(-1, descending=True)[:, :b]
        values = values.gather(-1, order)
        vectors = vectors.gather(-1, order[:, None, :].expand(-1, m, -1))
        # a conjugate pair spans the real and the imaginary part of either of its vectors
        spans = torch.where(values[:, None].imag < 0, vectors.imag, vectors.real)
        return (spans.to(self._vectors.dtype).mT @ self._vectors[:, :m]).mT


Norm = Callable[[Tensor], Tensor]


def largest_l1(r: Tensor) -> Tensor:
    """The largest ℓ1 norm over columns, (h, N, b) → (h,)."""
    return r.abs().sum(-2).amax(-1)


def largest_entry(r: Tensor) -> Tensor:
    """The largest modulus, (h, N, b) → (h,)."""
    return r.abs().amax((-2, -1))


def gmres(
    apply_for: Callable[[Tensor], Apply],
    r: Tensor,
    tolerance: Tensor,
    max_applies: int,
    norm: Norm = largest_l1,
) -> tuple[Tensor, Tensor, int]:
    """Solve D = M D + R; all columns share one Krylov space.

    Args:
        apply_for: indices of heads (k,) → M of these heads, (k, N, b) → (k, N, b).
        r: right-hand sides, (h, N, b).
        tolerance: residual wanted in ``norm``, (h,).
        max_applies: attention applications allowed.
        norm: how a residual is measured, (h, N, b) → (h,).

    Returns:
        D (h, N, b), the residual R + M D − D in ``norm`` (h,) as the recurrence sees it, and the applies.

    Source: Saad and Schultz (1986); the norm minimised is ℓ2, whichever is tested.
    """
    r = r.clone()
    d, size = torch.zeros_like(r), norm(r)
    width = r.shape[-1]
    dimension = constants.GMRES_DIMENSION
    if width > 1:
        dimension = max(dimension, min(constants.GMRES_BLOCKS * width, constants.GMRES_LARGEST))
    active = (size > tolerance).nonzero()[:, 0]
    applies = 0
    while len(active) and applies < max_applies:
        start, apply = r[active], apply_for(active)
        space = KrylovSpace(start, dimension)
        factor = space.basis.mT @ start  # the first block of the basis spans the residual
        while len(active):
            while not space.full and applies < max_applies:
                space.extend(apply)
                applies += 1
                if space.dimension // width % constants.GMRES_CHECK == 0:
                    break
            change, residual = _least_squares(space, factor)
            left = norm(residual)
            settled = left <= tolerance[active]
            full = space.full or applies >= max_applies
            leaving = torch.ones_like(settled) if full else settled
            if full or bool(settled.sum() * 2 >= len(active)):
                out = active[leaving]
                d[out] += change[leaving]
                r[out], size[out] = residual[leaving], left[leaving]
                active, factor, space = active[~leaving], factor[~leaving], space.select(~leaving)
                if len(active):
                    apply = apply_for(active)
        active = (size > tolerance).nonzero()[:, 0]
    return d, size, applies


def _least_squares(space: KrylovSpace, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The D of the space with the smallest ‖R + M D − D‖₂, (h, N, b), and that residual, (h, N, b)."""
    m = space.dimension
    target = factor.new_zeros(len(factor), m + space.width, factor.shape[-1])
    target[:, : space.width] = factor
    system = -space.projection
    system[:, :m] += torch.eye(m, dtype=factor.dtype, device=factor.device)
    y = torch.linalg.lstsq(system, target).solution
    rows = space.basis.mT
    return (y.mT @ rows[:, :m]).mT, ((target - system @ y).mT @ rows).mT
