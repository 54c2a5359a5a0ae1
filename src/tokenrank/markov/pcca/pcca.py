"""PCCA+: the crispest memberships in an invariant subspace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ChainError
from ..engine import constants
from .exchange import Exchange
from .simplex import crispness, feasible, inner_simplex, memberships, weighted_basis

EQUAL = 1e-9  # differences of weight that do not decide the order of states
LOSS = 1e-6  # crispness that the shifts of the constraints may cost a search that found nothing better


@dataclass(frozen=True)
class Pcca:
    """Memberships χ = X A of m states and how they were found.

    Attributes:
        memberships: χ, (*batch, N, m), ≥ 0, rows sum to one; states by weight, heaviest first.
        rotation: A, (*batch, m, m), for the η-orthonormal X of ``weighted_basis``.
        weights: χᵀη, (*batch, m), sum one. 0 for a state that the crispest memberships leave empty,
            as happens where the tokens lie on a figure with parallel sides.
        crispness: trace(S)/m, (*batch); see ``simplex.crispness``.
        start: crispness of the start, the inner simplex made feasible, (*batch).
        minchi: smallest membership of the inner simplex before it is made feasible, (*batch).
        rounds: rounds of exchanges spent (the largest over the batch).
        converged: bool (*batch): no exchange of a facet for a neighbouring one makes it crisper (to 1e-6).
    """

    memberships: Tensor
    rotation: Tensor
    weights: Tensor
    crispness: Tensor
    start: Tensor
    minchi: Tensor
    rounds: int
    converged: Tensor


def pcca(basis: Tensor, reference: Tensor | None = None, seed: int = 0) -> Pcca:
    """The crispest memberships χ = X A ≥ 0 with rows that sum to one, X a basis of the subspace.

    Args:
        basis: (*batch, N, m) float64, orthonormal columns, the first constant; such as
            ``spectrum(...).right``, real, complex pairs by their real and imaginary part.
        reference: η, (*batch, N), positive, sums to one: the inner product that crispness is measured
            in, as in G-PCCA. Uniform by default, where X is the basis times √N.
        seed: of the shifts of constraints and the random directions.

    Method. Write column j of A as s_j (1, b_j) and row i of X as (1, y_i). Memberships are feasible
    where b_j ∈ P = {b : 1 + y_i · b ≥ 0 for every token i}, s ≥ 0, Σ s_j = 1, Σ s_j b_j = 0, and

        m · crispness = 1 + Σ_j s_j |b_j|².

    For given b_j that is a linear program in s with m rows, and it is convex in b_j, so its maxima are
    at vertices of P: kinks of the objective, where smooth ascent stops short. We run the simplex method
    of that program and make columns as they are needed. Its multipliers, y + 2 c · b_j = |b_j|² for all
    j, put the b_j on a sphere about c; a vertex of P outside of it makes the memberships crisper when
    it is exchanged for one of them. Such vertices are found by following the gradient of |b − c|² to the
    end of P (a linear program each), then among all neighbours along edges, then from the ends of random
    directions. Crispness grows with every exchange: it is never less than that of the start, and ends
    where no neighbouring facet is better, a local maximum. All heads in one batch.

    Raises:
        ChainError: more states than tokens, or a basis that is not what it has to be.

    Source: Deuflhard, Weber (2005); Röblitz, Weber (2013); Reuter, Fackeldey, Weber (2019),
    doi:10.1063/1.5064530 (non-reversible chains, η); Frank, Sikorski, Röblitz, arXiv 2206.14537. They
    maximise over the (m − 1)² free entries of A by Nelder–Mead or by gradient steps; the linear
    program is worked out above.
    """
    n, m = _checked(basis, reference)
    batch, heads = basis.shape[:-2], math.prod(basis.shape[:-2])
    flat = basis.reshape(heads, n, m)
    eta = None
    if reference is not None:
        reference = reference.to(basis)
        eta = (reference / reference.sum(-1, keepdim=True)).expand(*batch, n).reshape(heads, n)
    size = max(1, constants.PCCA_BYTES // (8 * n * m * m))
    parts = [
        _of_group(flat[i : i + size], None if eta is None else eta[i : i + size], seed)
        for i in range(0, max(heads, 1), size)
    ]
    joined = {
        name: torch.cat([getattr(p, name) for p in parts]).reshape((*batch, *getattr(parts[0], name).shape[1:]))
        for name in ("memberships", "rotation", "weights", "crispness", "start", "minchi", "converged")
    }
    return Pcca(rounds=max(p.rounds for p in parts), **joined)


def _of_group(basis: Tensor, reference: Tensor | None, seed: int) -> Pcca:
    x = weighted_basis(basis, reference)
    first, minchi = inner_simplex(x)
    if x.shape[-1] == 1:  # one state, to which everything belongs
        one, yes = torch.ones_like(minchi), torch.ones_like(minchi, dtype=torch.bool)
        return Pcca(torch.ones_like(x), first, one[:, None], one, one, minchi, 0, yes)
    begin = feasible(x, first)
    search = Exchange(x, begin, seed)
    converged = search.run()
    a = search.result()
    before, after = crispness(begin), crispness(a).nan_to_num(nan=0.0)
    a = a.where((after >= before)[:, None, None], begin)
    # by weight; of equal ones the state of the earlier token first, whatever signs the basis came with
    labels = memberships(x, a).argmax(-1)
    own = labels[..., None] == torch.arange(a.shape[-1], device=a.device)
    order = torch.where(own.any(-2), own.int().argmax(-2), x.shape[-2]).sort(dim=-1, stable=True).indices
    weight = (a[:, 0].gather(-1, order) / EQUAL).round()
    order = order.gather(-1, weight.sort(dim=-1, descending=True, stable=True).indices)
    a = a.gather(-1, order[:, None].expand_as(a))
    return Pcca(
        memberships(x, a),
        a,
        a[:, 0],
        torch.maximum(before, after),
        before,
        minchi,
        search.rounds,
        converged & (after > before - LOSS),
    )


def _checked(basis: Tensor, reference: Tensor | None) -> tuple[int, int]:
    n, m = basis.shape[-2:]
    if m < 1 or m > n:
        raise ChainError(f"a basis of {m} vectors on {n} tokens, expected 1 … {n} of them")
    if basis.dtype != torch.float64 or not bool(torch.isfinite(basis).all()):
        raise ChainError(f"a {basis.dtype} basis, or one with NaN; expected finite float64, as spectrum(...) gives")
    gram = basis.mT @ basis - torch.eye(m, dtype=basis.dtype, device=basis.device)
    constant = (basis[..., 0] - basis[..., :1, 0]).abs()
    if bool((gram.abs() > 1e-8).any()) or bool((constant > 1e-8).any()):
        raise ChainError(
            f"the basis is not orthonormal with a constant first column (off by {float(gram.abs().max()):.1e} and "
            f"{float(constant.max()):.1e}, expected below 1e-8); give spectrum(...).right up to its count"
        )
    if reference is not None and not bool((reference > 0).all() and ((reference.sum(-1) - 1).abs() < 1e-6).all()):
        raise ChainError(
            f"the reference distribution has entries from {float(reference.min()):.3g} and sums off one by up to "
            f"{float((reference.sum(-1) - 1).abs().max()):.1e}; expected positive ones, as memberships of a token "
            "without weight would not be measured: mix it with the uniform distribution"
        )
    return n, m
