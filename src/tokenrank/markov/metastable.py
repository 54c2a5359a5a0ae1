"""Metastable states: groups of tokens that the walk rarely leaves, and the chain between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from ..progress import track
from .certificate import Certificate
from .eigen.modes import ORTHONORMAL
from .engine.eigenvalues import cuts_pair
from .pcca.pcca import pcca
from .pcca.simplex import weighted_basis
from .pcca.state_count import NO_GAP, Candidates, Found, candidates, choose, gap
from .result import Result
from .spectrum import Spectrum, spectrum

TRUSTED = 0.01  # residual, as a share of the gap, up to which the subspace is trusted
EMPTY = 1e-9  # weight up to which a state has no tokens


@dataclass(frozen=True, repr=False)
class Metastable(Result):
    """Metastable states of every chain, float64; K is the largest ``count``.

    Attributes:
        values: memberships χ, (*batch, N, K), ≥ 0, rows sum to one; states by weight, heaviest first; zero
            columns beyond ``count``.
        count: number of states m, int64 (*batch). With a given k: k + 1 where k would cut a conjugate pair, fewer where
            the crispest memberships leave states empty, as happens where the tokens lie on a figure with parallel
            sides; uncertain then.
        labels: the state that each token belongs to most, int64 (*batch, N).
        coarse: (χᵀDχ)⁻¹ χᵀD A χ with D = diag(η), (*batch, K, K): the chain between states. It has the m
            leading eigenvalues of A and rows that sum to one; single entries may be negative, as
            memberships overlap. Zero beyond ``count``.
        weights: χᵀη, (*batch, K): share of the tokens in each state, positive up to ``count``.
        crispness: trace(diag(χᵀη)⁻¹ χᵀDχ)/m, (*batch), 1/m … 1.
        minchi: smallest membership of the inner simplex, (*batch); near 0 where m states fit.
        gap: |λ_m| − |λ_{m+1}|, (*batch); λ_{N+1} = 0.
        rounds: rounds of exchanges spent by PCCA+ (the largest over the batch).
        candidates: the table that the number of states was chosen from; None with a given k.
        certificate: converged where no exchange of a facet for a neighbouring one makes it crisper (to 1e-6);
            ``residual`` is ‖A V − V Vᵀ A V‖_F of the orthonormal basis V of the subspace, measured. Uncertain where
            there is no gap (below 1e-8), or a residual, or what the eigenvalues may be off by where that is known,
            above 1 % of it: the subspace, and with it the states, may then be another. No error bound.
    """

    AXES = ("token", "state")
    OVER_TOKENS = (("values", -2), ("labels", -1))
    LABELS = (
        ("values", "memberships"),
        ("count", "states"),
        ("labels", "state of every token"),
        ("coarse", "chain between states"),
        ("weights", "share of the tokens"),
        ("minchi", "minChi"),
    )

    values: Tensor
    count: Tensor
    labels: Tensor
    coarse: Tensor
    weights: Tensor
    crispness: Tensor
    minchi: Tensor
    gap: Tensor
    rounds: int
    candidates: Candidates | None
    certificate: Certificate


def metastable(
    operator: Operator, k: int | None = None, largest: int = 8, reference: Tensor | None = None, seed: int = 0
) -> Metastable:
    """PCCA+ on the dominant real right invariant subspace of every head; reversible or not.

    Args:
        operator: (*batch, N, N).
        k: number of states, 1 … N. Where k would cut a conjugate pair of a head, that head gets
            k + 1; ``count`` says so. None: chosen for every head.
        largest: most states tried where k is None, from 2; no more than N.
        reference: η, (*batch, N) or broadcastable, positive, sums to one: the distribution of tokens
            that crispness, weights and the coarse chain are measured in. Uniform by default.
        seed: of the eigenvalue iteration and of the search.

    The rule of choice. m is eligible where it cuts no pair, the tokens lie in a simplex (minChi ≥ −0.1),
    tokens rather belong to their state than not (crispness > ½), every state is the most likely one of
    some token, λ_m and λ_{m+1} are apart (gap > 1e-8), states outlast a bounce (|λ_m| ≥ ½) and the walk rather stays
    in each than leaves it (``coarse`` has at least ½ on its diagonal). m = N is
    always perfectly crisp and eligible only where nothing decays (|λ_N| = 1). Among these the crispest
    is taken; up to 1e-3 count as equal, and the larger gap decides. Where none is eligible the answer
    is one state: of a cycle, whose tokens are left at every bounce, and of a chain of rank one.

    Eigenvalues are ordered by modulus, so that with a given k states may also follow each other in a cycle (λ near −1
    or complex): ``coarse`` shows whether they are stayed in.

    Tokens that the walk leaves for ever belong to where it ends: with as many states as recurrent classes memberships
    are the probabilities of being absorbed in each (committors).

    Raises:
        ChainError: k or ``largest`` out of range, or a reference that is no positive distribution.

    Source: ``pcca`` names the papers; the coarse chain is that of Reuter et al. (2018),
    doi:10.1021/acs.jctc.8b00079, the criteria those of Röblitz, Weber (2013), doi:10.1007/s11634-013-0134-6.
    """
    n, heads = operator.num_tokens, math.prod(operator.batch)
    _check(k, largest, reference, operator.shape[:-1])
    most = min(n, largest if k is None else k + 1)
    slow = spectrum(operator, min(n, most + 1), seed=seed)
    flat = _Flat(operator, slow, heads, reference)
    if k is None:
        tried = [m for m in range(1, most + 1) if bool(flat.whole(m).any())]
        found = {m: flat.solve(m, flat.whole(m), seed) for m in track(tried, "metastable states, numbers tried")}
        table = candidates(found, most, flat.moduli, n)
        count = choose(table)
    else:
        table = None
        count = torch.where(flat.whole(k), k, k + 1)
        found = {m: flat.solve(m, count == m, seed) for m in set(count.tolist())}
    return _assembled(operator, flat, found, count, table)


class _Flat:
    """Spectrum and reference with the leading dimensions flattened, and what follows from them."""

    def __init__(self, operator: Operator, slow: Spectrum, heads: int, reference: Tensor | None) -> None:
        n = operator.num_tokens
        self.operator, self.applies = operator.reshape(heads), slow.certificate.applies + 1
        self.values = slow.values.reshape(heads, -1)
        self.basis = slow.right.reshape(heads, n, -1)
        self.residual = slow.right_residual.reshape(heads, -1)
        known = slow.certificate.error_bound
        self.off = torch.zeros_like(self.residual[:, 0]) if known is None else known.reshape(heads)
        self.off = torch.where(torch.isinf(self.off), 0.0, self.off)  # not proved: the residuals tell
        self.basis, self.broken = _made_orthonormal(self.basis)
        self.image = self.operator @ self.basis
        moduli = self.values.abs().nan_to_num(nan=0.0)
        self.moduli = torch.cat([moduli, torch.zeros_like(moduli[:, :1])], -1)
        self.reference = None
        if reference is not None:
            reference = reference.to(self.basis)
            reference = reference / reference.sum(-1, keepdim=True)
            self.reference = reference.expand(*operator.batch, n).reshape(heads, n)

    def whole(self, m: int) -> Tensor:
        """Whether the first m eigenvalues cut no pair, bool (h,)."""
        return ~cuts_pair(self.values, m)

    def solve(self, m: int, where: Tensor, seed: int) -> Found:
        """The heads that take part, PCCA+ of these with m states, and the chain between these."""
        chosen = where.nonzero()[:, 0]
        v, image = self.basis[chosen, :, :m], self.image[chosen, :, :m]
        reference = None if self.reference is None else self.reference[chosen]
        answer = pcca(v, reference, seed)
        x = weighted_basis(v, reference)
        eta = torch.full_like(v[..., 0], 1 / v.shape[-2]) if reference is None else reference
        return chosen, answer, _projected(x, answer.rotation, image @ (v.mT @ x), eta)


def _assembled(
    operator: Operator,
    flat: _Flat,
    found: dict[int, Found],
    count: Tensor,
    table: Candidates | None,
) -> Metastable:
    heads, n = flat.basis.shape[:2]
    filled = count.clone()
    for m in count.unique().tolist():
        chosen, answer, _ = found[m]
        filled[chosen] = torch.where(count[chosen] == m, (answer.weights > EMPTY).sum(-1), filled[chosen])
    width = int(filled.max())
    new = flat.basis.new_zeros
    chi, coarse, weights = new(heads, n, width), new(heads, width, width), new(heads, width)
    crispness, minchi, gaps, residual = new(4, heads).unbind()
    uncertain, converged = torch.zeros(2, heads, dtype=torch.bool, device=count.device).unbind()
    for m in count.unique().tolist():
        chosen, answer, between = found[m]
        mine = count[chosen] == m
        at = chosen[mine]
        v, av, w = flat.basis[at, :, :m], flat.image[at, :, :m], min(m, width)
        # states by weight, heaviest first: empty ones are the last
        chi[at, :, :w], weights[at, :w] = answer.memberships[mine, :, :w], answer.weights[mine, :w]
        coarse[at, :w, :w] = between[mine, :w, :w]
        # each state has a share of one m-th in the crispness, an empty one nothing in its share
        crispness[at] = answer.crispness[mine] * m / filled[at]
        minchi[at], gaps[at] = answer.minchi[mine], gap(flat.moduli, m)[at]
        residual[at] = torch.linalg.matrix_norm(av - v @ (v.mT @ av))
        following = flat.residual[at, m] if m < flat.residual.shape[-1] else torch.zeros_like(residual[at])
        doubt = torch.maximum(torch.maximum(residual[at], following), flat.off[at])
        uncertain[at] = (gaps[at] <= NO_GAP) | (doubt > TRUSTED * gaps[at]) | flat.broken[at] | (filled[at] < m)
        converged[at] = answer.converged[mine]
    beyond = torch.arange(width, device=count.device) >= filled[:, None]
    chi, weights = chi.masked_fill(beyond[:, None], 0.0), weights.masked_fill(beyond, 0.0)
    chi = chi / chi.sum(-1, keepdim=True)
    coarse = coarse.masked_fill(beyond[:, None] | beyond[..., None], 0.0)

    def shaped(x: Tensor) -> Tensor:
        return x.reshape((*operator.batch, *x.shape[1:]))

    return Metastable(
        values=shaped(chi),
        count=shaped(filled),
        labels=shaped(chi.argmax(-1)),
        coarse=shaped(coarse),
        weights=shaped(weights),
        crispness=shaped(crispness),
        minchi=shaped(minchi),
        gap=shaped(gaps),
        rounds=max(answer.rounds for _, answer, _ in found.values()),
        candidates=None if table is None else table.reshape(*operator.batch),
        certificate=Certificate(
            shaped(converged), shaped(residual), None, flat.applies, "pcca+", shaped(uncertain | ~converged)
        ),
    )


def _made_orthonormal(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Bases (h, N, m), and which of them were none and had to be made one: no subspace of their chain, but usable."""
    given = basis.square().sum(-2) > 0.5
    gram = basis.mT @ basis - torch.diag_embed(given.double())
    broken = (gram.abs().amax((-2, -1)) > ORTHONORMAL) | ~torch.isfinite(basis).all(-1).all(-1)
    some = broken.nonzero()[:, 0]
    if len(some):
        generator = torch.Generator().manual_seed(0)
        n, m = basis.shape[-2:]
        spread = torch.randn(n, m, generator=generator, dtype=torch.float64).to(basis)
        spread[:, 0] = 1
        mended = torch.where(torch.isfinite(basis[some]), basis[some], 0.0) + 1e-3 * spread
        mended[..., 0] = 1
        basis = basis.clone()
        basis[some] = torch.linalg.qr(mended).Q
    return basis, broken


def _projected(x: Tensor, a: Tensor, image: Tensor, eta: Tensor) -> Tensor:
    """(χᵀDχ)⁻¹ χᵀD A χ = R⁻¹ (XᵀD A X) R with χ = X R; X, A X (h, N, m), R (h, m, m).

    The second form has the condition of R where the first has its square. A state of weight zero has a zero
    column in R; its row is zero.
    """
    slow = (x * eta[..., None]).mT @ image
    return torch.linalg.pinv(a, rtol=1e-9) @ slow @ a


def _check(k: int | None, largest: int, reference: Tensor | None, shape: torch.Size) -> None:
    n = shape[-1]
    if k is None:
        if not isinstance(largest, (int, np.integer)) or isinstance(largest, bool) or largest < 2:
            raise ChainError(f"largest = {largest!r} states to be tried, expected a whole number from 2")
    elif not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k <= n:
        raise ChainError(f"k = {k!r} states of a chain of {n} tokens, expected a whole number from 1 to {n}")
    if reference is None:
        return
    fits = reference.ndim <= len(shape) and all(
        a in (1, b) for a, b in zip(reference.shape[::-1], shape[::-1], strict=False)
    )
    if not fits or reference.ndim == 0 or reference.shape[-1] != n:
        raise ChainError(
            f"the reference distribution has shape {tuple(reference.shape)}, expected one that broadcasts to "
            f"{tuple(shape)} and has an entry for each token"
        )
