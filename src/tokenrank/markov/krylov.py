"""A block Krylov space that grows, with the eigenvalues it knows of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ritz:
    """The dominant Ritz value of every head.

    Attributes:
        modulus: |θ|, (h,).
        residual: ‖M y − θ y‖₂ for the unit Ritz vector y, (h,).
        block: real block (h, N, b) that spans the leading Ritz vectors, to go on from.
    """

    modulus: Tensor
    residual: Tensor
    block: Tensor


class KrylovSpace:
    """Orthonormal basis of span{X, M X, M² X, …} and M projected on it (block Arnoldi).

    Args:
        start: X, (h, N, b), real; M maps (h, N, b) to the same shape, column by column.
    """

    def __init__(self, start: Tensor) -> None:
        heads, self.width = start.shape[0], start.shape[-1]
        self.basis = torch.linalg.qr(start).Q  # (h, N, dimension + b): the last block is not yet mapped
        self.projection = start.new_zeros(heads, self.width, 0)  # (h, dimension + b, dimension)
        self.generator = torch.Generator().manual_seed(0)

    @property
    def dimension(self) -> int:
        """Basis vectors that M has been applied to."""
        return self.projection.shape[-1]

    @property
    def exhausted(self) -> bool:
        """No room for another block: the space is (almost) everything."""
        return self.dimension + 2 * self.width > self.basis.shape[-2]

    def extend(self, apply: Apply) -> None:
        """One block more, one apply.

        Orthogonalised, normalised, and both once again. Directions in which the space is closed
        under M hold rounding only; random ones take their place, with no coupling to them.
        """
        w = apply(self.basis[..., self.dimension :])
        noise = 10 * torch.finfo(w.dtype).eps * torch.linalg.matrix_norm(w)
        first = self.basis.mT @ w
        block, r = torch.linalg.qr(w - self.basis @ first)
        closed = r.diagonal(dim1=-2, dim2=-1).abs() <= noise[:, None]
        if bool(closed.any()):
            fresh = torch.randn(block.shape[1:], generator=self.generator).to(block)
            block = torch.where(closed[:, None], fresh / fresh.shape[0] ** 0.5, block)
            r = r.masked_fill(closed[..., None], 0.0)
        second = self.basis.mT @ block
        block, r_again = torch.linalg.qr(block - self.basis @ second)
        column = torch.cat([first + second @ r, r_again @ r], -2)
        grown = torch.nn.functional.pad(self.projection, (0, 0, 0, self.width))
        self.projection = torch.cat([grown, column], -1)
        self.basis = torch.cat([self.basis, block], -1)

    def select(self, heads: Tensor) -> KrylovSpace:
        """The same space for some of the heads."""
        part = KrylovSpace.__new__(KrylovSpace)
        part.width, part.generator = self.width, self.generator
        part.basis, part.projection = self.basis[heads], self.projection[heads]
        return part

    def ritz(self) -> Ritz:
        """Leading eigenpair of the projection."""
        m, b = self.dimension, self.width
        values, vectors = torch.linalg.eig(self.projection[:, :m])
        order = values.abs().argsort(-1, descending=True)[:, :b]
        values = values.gather(-1, order)
        vectors = vectors.gather(-1, order[:, None, :].expand(-1, m, -1))
        outside = self.projection[:, m:].to(vectors.dtype) @ vectors[..., :1]
        residual = torch.linalg.vector_norm(outside[..., 0], dim=-1)
        # a conjugate pair spans the real and the imaginary part of either of its vectors
        spans = torch.where(values[:, None].imag < 0, vectors.imag, vectors.real)
        return Ritz(values[:, 0].abs(), residual, self.basis[..., :m] @ spans.to(self.basis.dtype))
