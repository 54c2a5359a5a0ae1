"""PCCA+: the crispest memberships in an invariant subspace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from .polar import Cloud, Vertices, adjacent, extreme, vertices
from .simplex import crispness, feasible, inner_simplex, memberships, weighted_basis

SHIFT = 1e-7  # random shifts of the constraints: points that (almost) coincide or share a facet come apart
ROUNDS = 1000  # exchanges of one stage; far more than any cloud of attention asked for
SWEEPS = 2  # looks in random directions for states that no neighbour leads to
GAIN = 1e-10  # relative improvement of the objective that counts
CHUNK_BYTES = 64 * 2**20  # largest tensor made

_Candidates = Callable[[Tensor], Vertices]


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
        converged: bool (*batch): no exchange of a facet for a neighbouring one makes it crisper.
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

    That is convex, so its maxima are at vertices of P: smooth ascent would stop at kinks, which is
    where the maxima are. For fixed b_j it is a linear program in s with m rows. We run its simplex
    method, columns made as they are needed: multipliers (c, y) with y + 2 c · b_j = |b_j|² turn the
    question which b to exchange into one for a vertex of P farther from c than the present ones. The
    gradient of |b − c|² followed to the end of P finds such vertices (a linear program each); then all
    neighbours along edges; then the ends of random directions. Every exchange makes the memberships
    crisper, so they are never worse than the start, and the crispest ones found are a local optimum
    over exchanges of facets. All heads in one batch.

    Raises:
        ChainError: more states than tokens, or a basis that is not what it has to be.

    Source: Deuflhard, Weber (2005); Röblitz, Weber (2013); Reuter, Fackeldey, Weber (2019),
    doi:10.1063/1.5064530 (non-reversible chains, η); Frank, Sikorski, Röblitz, arXiv 2206.14537. They
    maximise over the (m − 1)² free entries of A by Nelder–Mead or gradient steps; the exchange
    of vertices is our own.
    """
    n, m = _checked(basis, reference)
    batch, heads = basis.shape[:-2], math.prod(basis.shape[:-2])
    flat = basis.reshape(heads, n, m)
    eta = None if reference is None else reference.to(basis).expand(*batch, n).reshape(heads, n)
    size = max(1, CHUNK_BYTES // (8 * n * m * m))
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
    search = _Search(x, begin, seed)
    converged = search.run()
    a = search.result()
    before, after = crispness(begin), crispness(a)
    better = after >= before  # NaN counts as worse
    a = a.where(better[:, None, None], begin)
    order = a[:, 0].sort(dim=-1, descending=True, stable=True).indices
    a = a.gather(-1, order[:, None].expand_as(a))
    return Pcca(memberships(x, a), a, a[:, 0], crispness(a), before, minchi, search.rounds, converged & better)


class _Search:
    """The linear program over vertices of P: for each of h heads m columns, atoms (s_j, b_j)."""

    def __init__(self, x: Tensor, a: Tensor, seed: int) -> None:
        self.x = x
        heads, n, m = x.shape
        self.generator = torch.Generator().manual_seed(seed)
        # the same shifts and directions for every head, so that none depends on its batch
        shifts = torch.rand(n, generator=self.generator, dtype=torch.float64).to(x)
        self.cloud = Cloud(x[..., 1:].mT.contiguous(), 1 + SHIFT * shifts)
        self.atoms = (a[:, 1:] / a[:, :1]).mT.contiguous()
        self.rows = torch.full((heads, m, m - 1), -1, dtype=torch.long, device=x.device)  # −1: no vertex yet
        self.rounds = 0

    def run(self) -> Tensor:
        """All stages; whether each head ended where no neighbour is better."""
        heads, m = self.atoms.shape[:2]
        everyone = torch.arange(heads, device=self.x.device)
        self._repeat(everyone, self._ends_of_gradients)
        settled = self._repeat(everyone, self._neighbours)
        for _ in range(SWEEPS):
            directions = torch.randn(2 * m, m - 1, generator=self.generator, dtype=torch.float64).to(self.x)
            moved = self._exchange(everyone, self._ends_of(everyone, directions.expand(heads, -1, -1)))
            self.rounds += 1
            again = everyone[moved]
            settled[again] = self._repeat(again, self._neighbours)
        return settled

    def result(self) -> Tensor:
        """A (h, m, m): the vertices without the shifts of their constraints, made feasible."""
        plain = Cloud(self.cloud.points, torch.ones_like(self.cloud.offsets))
        exact = vertices(plain, self.rows).at
        is_vertex = (self.rows >= 0).all(-1, keepdim=True)
        matrix, _, s = _program(exact.where(is_vertex, self.atoms))
        return feasible(self.x, s.clamp(min=0)[:, None] * matrix)

    def _repeat(self, heads: Tensor, candidates: _Candidates) -> Tensor:
        """Exchange until nothing improves; whether that point was reached, (len(heads),)."""
        reached = torch.zeros(len(heads), dtype=torch.bool, device=heads.device)
        left = torch.arange(len(heads), device=heads.device)
        for _ in range(ROUNDS):
            if not len(left):
                break
            self.rounds += 1
            moved = self._exchange(heads[left], candidates(heads[left]))
            reached[left[~moved]] = True
            left = left[moved]
        return reached

    def _ends_of_gradients(self, heads: Tensor) -> Vertices:
        atoms = self.atoms[heads]
        return extreme(self.cloud.select(heads), atoms - _multipliers(atoms)[0][:, None])

    def _neighbours(self, heads: Tensor) -> Vertices:
        return adjacent(self.cloud.select(heads), self.rows[heads])

    def _ends_of(self, heads: Tensor, directions: Tensor) -> Vertices:
        """From the ends of the directions, two gradient steps away from c."""
        cloud, c = self.cloud.select(heads), _multipliers(self.atoms[heads])[0]
        found = extreme(cloud, directions)
        for _ in range(2):
            found = extreme(cloud, found.at - c[:, None])
        return found

    def _exchange(self, heads: Tensor, new: Vertices) -> Tensor:
        """Pivot in whatever of ``new`` improves, until nothing of it does; whether anything did, (len(heads),)."""
        atoms, rows = self.atoms[heads], self.rows[heads]
        moved = torch.zeros(len(heads), dtype=torch.bool, device=heads.device)
        which = torch.arange(len(heads), device=heads.device)
        columns = torch.cat([torch.ones_like(new.at[..., :1]), new.at], -1).mT
        norms = new.at.square().sum(-1)
        for _ in range(4 * atoms.shape[1]):
            c, y = _multipliers(atoms)
            _, inverse, s = _program(atoms)
            worth = norms - 2 * (new.at @ c[..., None])[..., 0] - y[:, None]
            w = inverse @ columns
            step, leaving = (s.clamp(min=0)[..., None] / w).where(w > GAIN, torch.inf).min(1)
            gain = (step * worth).where(new.valid & (worth > GAIN) & torch.isfinite(step), -1.0)
            best, entering = gain.max(-1)
            go = which[best > GAIN * (1 + y)]
            if not len(go):
                break
            out = leaving[go, entering[go]]
            atoms[go, out], rows[go, out] = new.at[go, entering[go]], new.rows[go, entering[go]]
            moved[go] = True
        self.atoms[heads], self.rows[heads] = atoms, rows
        return moved


def _program(atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The basis matrix with columns (1, b_j), its inverse, and s with Σ s_j (1, b_j) = (1, 0)."""
    matrix = torch.cat([torch.ones_like(atoms[..., :1]), atoms], -1).mT
    inverse, _ = torch.linalg.inv_ex(matrix)
    return matrix, inverse, inverse[..., 0]


def _multipliers(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """c (h, d) and y (h,) with y + 2 c · b_j = |b_j|² for every atom."""
    _, inverse, _ = _program(atoms)
    values = (atoms.square().sum(-1)[..., None, :] @ inverse)[..., 0, :]
    return values[..., 1:] / 2, values[..., 0]


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
            "the reference distribution has to be positive and sum to one: memberships of a token without weight "
            "would not be measured; mix it with the uniform one"
        )
    return n, m
