"""Block Arnoldi for all heads at once without a word from the host: fixed shapes, no test, no factorisation that waits.

What ``KrylovSpace`` decides with ``bool`` is decided with ``torch.where`` here, and its QR factorisations, which a
device takes one matrix at a time, are Cholesky factorisations of b × b Gram matrices. Few, large operations: each of
them is launched, and a launch costs as much as a product of many heads of a thousand tokens.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .krylov import Apply, KrylovSpace
from .ritz import leading_basis, ritz
from .transfer import brought, sent

NOISE = 10  # of the rounding of a block: directions no longer than that are lost
SHIFT = 1e-14  # added to Gram matrices of columns of about length one in double precision, far below their noise


class DeviceSpace(KrylovSpace):
    """A ``KrylovSpace`` whose steps wait for nothing; its projection is kept in float64.

    Args:
        start: X, (h, N, b), real, in single precision, columns independent.
        capacity: dimension that the space may grow to.
        generator: on the device of ``start``, for what takes the place of directions that are closed.
    """

    def __init__(self, start: Tensor, capacity: int, generator: torch.Generator) -> None:
        heads, n, b = start.shape
        self.width = b
        self.capacity = max(1, min(capacity, n - b) // b) * b
        self._vectors = start.new_empty(heads, self.capacity + b, n)
        self._coefficients = start.new_zeros(heads, self.capacity + b, self.capacity, dtype=torch.float64)
        wide = start.double() / n**0.5
        first = orthonormal(orthonormal(wide))
        self._vectors[:, :b] = first.mT
        self._factor = torch.bmm(first.mT, wide) * n**0.5
        self._generator, self._fresh = generator, self._drawn(generator)
        self.dimension = 0
        self._brought: tuple[int, Tensor] | None = None

    def _drawn(self, generator: torch.Generator) -> Tensor:
        """Directions for all blocks, in one draw: columns (N, capacity) of about length one."""
        n, like = self._vectors.shape[-1], self._vectors
        fresh = torch.randn(n, self.capacity, generator=generator, dtype=like.dtype, device=like.device)
        return fresh.div_(n**0.5)

    def extend(self, apply: Apply) -> None:
        """One block more, one apply: orthogonalised and normalised, and both once again (CGS2, CholeskyQR2).

        Directions in which the space of a head is closed under M hold rounding only. Random ones take their place,
        with no coupling to them.

        Source: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, "Roundoff error analysis of the CholeskyQR2 algorithm"
        (2015).
        """
        known, b = self.dimension + self.width, self.width
        vectors = self._vectors[:, :known]
        w = apply(vectors[:, self.dimension :].mT)
        info = torch.finfo(w.dtype)
        first = torch.bmm(vectors, w)
        # in double precision, which costs nothing for b columns: Gram matrices square what columns are off by
        wide = torch.baddbmm(w, vectors.mT, first, alpha=-1).double()
        size = torch.linalg.matrix_norm(wide, keepdim=True)
        rest = wide / (size + info.tiny)
        longer = torch.linalg.matrix_norm(w, keepdim=True) / (size + info.tiny)  # it was, before the first products
        closed = pivots(rest) <= NOISE * info.eps * longer[..., 0].clamp(min=1)
        block = orthonormal(torch.where(closed[:, None], self._fresh[:, self.dimension : known], rest))
        # what columns that were replaced have along the others; nothing of the others is lost with them
        r = torch.bmm(block.mT, wide)
        narrow = block.to(w.dtype)
        second = torch.bmm(vectors, narrow)
        again = orthonormal(torch.baddbmm(narrow, vectors.mT, second, alpha=-1).double())
        column = self._coefficients[:, : known + b, self.dimension : known]
        column[:, :known] = torch.baddbmm(first.double(), second.double(), r)
        column[:, known:] = torch.bmm(torch.bmm(again.mT, block), r)
        self._vectors[:, known : known + b] = again.mT
        self.dimension = known

    def vectors(self, coordinates: Tensor) -> Tensor:
        """The vectors (h, N, c) of coordinates (h, m, c) in the basis, m ≤ dimension."""
        basis = self._vectors[:, : coordinates.shape[-2]]
        return torch.bmm(basis.mT, coordinates.to(basis.dtype))

    def select(self, heads: Tensor) -> DeviceSpace:
        """The same space for some of the heads, whose indices are on the host, as the projection may be already."""
        part = copy.copy(self)
        here = sent(self._vectors.device, heads)[0]
        part._vectors, part._coefficients = self._vectors[here], self._coefficients[here]
        part._factor = self._factor[here]
        part._brought = None if self._brought is None else (self._brought[0], self._brought[1][heads])
        return part

    def span(self, coordinates: Tensor) -> Tensor:
        """``vectors`` of all coordinates."""
        return self.vectors(coordinates)

    def _projection_on_host(self) -> Tensor:
        """Once for each dimension."""
        if self._brought is None or self._brought[0] != self.dimension:
            self._brought = self.dimension, brought(self.projection)[0]
        return self._brought[1]

    def ritz(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The leading eigenvalues of the projection, on the host: one copy of all heads' small matrices."""
        return ritz(self._projection_on_host(), count)

    def restart(self, keep: int) -> DeviceSpace:
        """As that of ``KrylovSpace``, with at most one copy to the host and one back."""
        m, b = self.dimension, self.width
        u, form, rest = sent(self._vectors.device, *leading_basis(self._projection_on_host(), keep))
        part = copy.copy(self)
        part._brought = None
        part._vectors, part._coefficients = torch.empty_like(self._vectors), torch.zeros_like(self._coefficients)
        part._vectors[:, :keep] = self.vectors(u).mT
        part._vectors[:, keep : keep + b] = self._vectors[:, m : m + b]
        part._coefficients[:, :keep, :keep], part._coefficients[:, keep : keep + b, :keep] = form, rest
        part._fresh = self._drawn(self._generator)
        part.dimension = keep
        return part


def pivots(x: Tensor) -> Tensor:
    """How far each column of X (h, N, b), in float64 and of length one, is from the span of those before it, (h, b)."""
    return _cholesky(x).diagonal(dim1=-2, dim2=-1)


def orthonormal(x: Tensor) -> Tensor:
    """An orthonormal basis of columns X (h, N, b) in float64, in their order: X times the inverse of a Cholesky factor.

    Orthonormal to 1e-14 times the square of the condition number of X; twice does it up to 1e6.
    """
    return torch.linalg.solve_triangular(_cholesky(x).mT, x, upper=True, left=False)


def _cholesky(x: Tensor) -> Tensor:
    """L (h, b, b) with L Lᵀ = XᵀX, shifted by more than its rounding, so that there always is one."""
    gram = torch.bmm(x.mT, x)
    gram.diagonal(dim1=-2, dim2=-1).add_(SHIFT)
    return torch.linalg.cholesky_ex(gram).L
