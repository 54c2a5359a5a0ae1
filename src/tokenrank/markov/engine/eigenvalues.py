"""Eigenvalues in one explicit order, without the 1 of the constant vector; real bases that never cut a pair."""

from __future__ import annotations

import torch
from torch import Tensor

TIE = 1e-10  # moduli closer than this count as equal


def quotient_matrix(a: Tensor) -> Tensor:
    """A − 1 (mean row), (h, N, N): the eigenvalues of A with one 1 replaced by 0.

    What is left of equal rows is rounding, of which LAPACK may find no eigenvalues at all; it is set to zero.
    """
    mean = a.mean(-2, keepdim=True)
    rest = a - mean
    return rest.masked_fill(rest.abs() <= 4 * torch.finfo(a.dtype).eps * (a + mean), 0.0)


def by_modulus(values: Tensor) -> Tensor:
    """Indices (h, m) that put eigenvalues (h, m) of real matrices in order.

    Moduli descending; among equal ones (to ``TIE``) larger real parts first. The two of a conjugate
    pair, which LAPACK hands out one after the other, stay together, positive imaginary part first.
    """
    # stable sorts: the two of a pair have exactly one real part and one modulus, and nothing comes between them
    first = values.real.sort(dim=-1, descending=True, stable=True).indices
    modulus = (values.gather(-1, first).abs() / TIE).round()
    return first.gather(-1, modulus.sort(dim=-1, descending=True, stable=True).indices)


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
    columns = torch.where(values[:, None].imag < 0, vectors.imag, vectors.real)
    return torch.linalg.qr(columns).Q
