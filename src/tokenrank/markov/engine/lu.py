"""LU factors, of one matrix at a time; inverses of many small matrices, without LU.

PyTorch's LU of a *batch* on a CPU pivots wrongly, or never ends, beyond 150 rows with two threads or more
(https://github.com/pytorch/pytorch/issues/142815). Nothing else calls LU: ``tests/test_no_batched_lu.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """P M = L U of one square matrix M, real or complex.

    Attributes:
        lu, pivots: as ``torch.linalg.lu_factor`` gives them, of Mᵀ if ``turned``.
        turned: whether they belong to Mᵀ: LAPACK reads columns, so that a matrix stored by rows is factored as its
            transpose without a copy in the other order.
        singular: a pivot is exactly zero, so that M has no inverse as far as LU can tell.
    """

    lu: Tensor
    pivots: Tensor
    turned: bool
    singular: bool

    def solve(self, b: Tensor) -> Tensor:
        """M⁻¹ b for columns b (N, c).

        Inf throughout if M is singular, and where numbers leave the range of floats; never NaN for finite b. How good
        x is, is not known here: look at the residual.
        """
        return self._solved(b, self.turned)

    def solve_transposed(self, b: Tensor) -> Tensor:
        """(Mᵀ)⁻¹ b, likewise. Transposed, not adjoint: nothing is conjugated."""
        return self._solved(b, not self.turned)

    def solve_adjoint(self, b: Tensor) -> Tensor:
        """(Mᴴ)⁻¹ b, likewise."""
        if not self.turned and not self.singular:
            x = torch.linalg.lu_solve(self.lu, self.pivots, b, adjoint=True)
            return x.masked_fill_(x.isnan(), torch.inf)
        return self.solve_transposed(b.conj().resolve_conj()).conj().resolve_conj()

    def _solved(self, b: Tensor, transposed: bool) -> Tensor:
        if self.singular:
            return torch.full_like(b, torch.inf)
        if transposed and self.lu.is_complex():
            x = torch.linalg.lu_solve(self.lu, self.pivots, b.conj().resolve_conj(), adjoint=True).conj().resolve_conj()
        else:
            x = torch.linalg.lu_solve(self.lu, self.pivots, b, adjoint=transposed)
        return x.masked_fill_(x.isnan(), torch.inf)


def factor(matrix: Tensor) -> Factor:
    """LU with partial pivoting of one matrix (N, N), 2/3 N³ operations; no error if it is singular.

    One matrix is made beside the given one, which is not changed. Rows of which the diagonal dominates (I − Q of
    a walk) need no pivots then, and elements do not grow.

    Raises:
        ValueError: a batch.
    """
    if matrix.ndim != 2:
        raise ValueError(f"a batch of matrices {tuple(matrix.shape)}, expected one: batched LU is wrong on a CPU")
    by_rows = matrix.is_contiguous()
    lu, pivots, info = torch.linalg.lu_factor_ex(matrix.mT if by_rows else matrix)
    return Factor(lu, pivots, by_rows, bool(info != 0))


def solve_once(matrix: Tensor, b: Tensor) -> Tensor:
    """M⁻¹ b for one matrix (N, N) in memory and one vector (N,), for which the factors are not kept.

    NumPy's LAPACK, which takes two thirds of the time of PyTorch's for a few hundred rows; a matrix stored by columns
    is copied as it is. Inf throughout if M is singular. How good x is, is not known here: look at the residual.
    """
    try:
        return torch.from_numpy(np.linalg.solve(matrix.numpy(), b.numpy()))
    except np.linalg.LinAlgError:
        return torch.full_like(b, torch.inf)


def inverses(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Of small matrices (*batch, d, d), by QR: M⁻¹ = R⁻¹ Qᵀ.

    Returns:
        The inverses, inf where there is none as far as rounding tells, and whether there is one, bool (*batch).
    """
    q, r = torch.linalg.qr(matrices)
    inverse = torch.linalg.solve_triangular(r, q.mT, upper=True)
    sizes = r.diagonal(dim1=-2, dim2=-1).abs()
    noise = matrices.shape[-1] * torch.finfo(r.dtype).eps * sizes.amax(-1)
    regular = (sizes.amin(-1) > noise) & torch.isfinite(inverse).all(-1).all(-1)
    return inverse.masked_fill(~regular[..., None, None], torch.inf), regular
