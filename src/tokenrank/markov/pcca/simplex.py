"""Membership simplices: the inner simplex start, feasibility, crispness.

Notation of the PCCA+ papers: X (N, m) is a basis of the invariant subspace, orthonormal in the
inner product of a distribution η, first column 1. Memberships are χ = X A with A (m, m).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ChainError, which_chain
from ..engine.lu import inverses


def weighted_basis(basis: Tensor, reference: Tensor | None = None) -> Tensor:
    """X (h, N, m) with Xᵀ diag(η) X = I and first column 1, from an orthonormal basis (h, N, m).

    The basis has a constant first column. Leading columns of X span what leading columns of the
    basis span. For uniform η (``reference`` None) it is the basis times √N.
    """
    n = basis.shape[-2]
    basis = basis * basis[..., :1, :1].sign()
    if reference is None:
        x = basis * n**0.5
    else:
        gram = basis.mT @ (reference[..., None] * basis)
        # upper triangular on the right: column k of X is made of columns 0 … k of the basis
        x = torch.linalg.solve_triangular(torch.linalg.cholesky(gram).mT, basis, upper=True, left=False)
    return torch.cat([torch.ones_like(x[..., :1]), x[..., 1:]], -1)


def inner_simplex(x: Tensor) -> tuple[Tensor, Tensor]:
    """The start of PCCA+: A = (X at m tokens)⁻¹, and minChi = min (X A).

    The tokens span a large simplex among the rows of X: the row of largest norm, then always the
    row farthest from the affine span of those chosen. X (h, N, m) gives A (h, m, m), minChi (h,);
    minChi is 0 where all rows lie in that simplex, negative by how far they stick out.

    Source: Weber, Galliat (2002), ZIB report 02-12; Deuflhard, Weber (2005), doi:10.1016/j.laa.2004.10.026.
    """
    heads, _, m = x.shape
    which = torch.arange(heads, device=x.device)
    chosen = [torch.linalg.vector_norm(x, dim=-1).argmax(-1)]
    rest = x - x[which, chosen[0]][:, None]
    for _ in range(m - 1):
        token = torch.linalg.vector_norm(rest, dim=-1).argmax(-1)
        chosen.append(token)
        axis = rest[which, token]
        axis = axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
        for _ in range(2):  # once more for what rounding left
            rest = rest - (rest @ axis[..., None]) * axis[:, None]
    a, regular = inverses(x[which[:, None], torch.stack(chosen, -1)])
    if not bool(regular.all()):
        place = regular.logical_not().nonzero()[0].tolist()
        raise ChainError(
            f"the rows of the basis of {which_chain(place, regular.shape)} span no simplex of {m} states; "
            f"expected {m} independent columns"
        )
    return a, (x @ a).amin((-2, -1))


def feasible(x: Tensor, a: Tensor) -> Tensor:
    """A (h, m, m) with its free entries kept up to a factor: X A ≥ 0 and rows of X A sum to one.

    The rows below the first sum to zero (first column replaced); the first row is the smallest that
    makes every membership ≥ 0; all is divided by the first row's sum.

    Source: Deuflhard, Weber (2005), Lemma 3.4; Röblitz, Weber (2013), doi:10.1007/s11634-013-0134-6, Algorithm 2.
    """
    free = a[:, 1:, 1:]
    slopes = torch.cat([-free.sum(-1, keepdim=True), free], -1)
    top = -(x[..., 1:] @ slopes).amin(-2) + 0.0  # no −0
    return torch.cat([top[:, None], slopes], 1) / top.sum(-1)[:, None, None]


def memberships(x: Tensor, a: Tensor) -> Tensor:
    """χ = X A (h, N, m) of a feasible A; what rounding left below zero or off one is taken off."""
    chi = (x @ a).clamp(min=0)
    return chi / chi.sum(-1, keepdim=True)


def crispness(a: Tensor) -> Tensor:
    """trace(S) / m with S = diag(χᵀη)⁻¹ χᵀ diag(η) χ, (h,): 1 for memberships 0 and 1, at least 1/m.

    (1/m) Σ_j ⟨χ_j, χ_j⟩_η / ⟨χ_j, 1⟩_η: how much, on average over states, tokens belong to the state
    that they are drawn from. With Xᵀ diag(η) X = I it is (1/m) Σ_j |A_j|² / A_0j. A state of weight
    zero adds nothing.

    Source: Röblitz, Weber (2013), eq. 16; Reuter et al. (2018), doi:10.1021/acs.jctc.8b00079.
    """
    weight = a[:, 0]
    share = (a.square().sum(-2) / weight.clamp(min=torch.finfo(a.dtype).tiny)).where(weight > 0, 0.0)
    return share.sum(-1) / a.shape[-1]
