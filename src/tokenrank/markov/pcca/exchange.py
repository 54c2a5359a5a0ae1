"""Exchange search of PCCA+: a linear program that exchanges facets of the membership simplex while that is crisper.

The notation is that of ``pcca``: columns s_j (1, b_j) of A, b_j in the polytope P, multipliers c and y. Vertices of P,
the polar {b : r_i + y_i · b ≥ 0 for every point i} of a cloud of points, are the hyperplanes of facets of its convex
hull, so that this walks over facets without ever building the hull. Batched: h clouds of n points in d dimensions, p
vertices of each at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine import constants
from ..engine.lu import inverses
from .simplex import crispness, feasible

BOX = 1e6  # |b_k| ≤ BOX to begin with; memberships of such slopes would have a weight below 1e-11
SLACK = 1e-12  # a constraint violated by less holds, relative to 1 + |b|
PARALLEL = 1e-11  # cosine below which a direction runs along a constraint


@dataclass(frozen=True)
class Cloud:
    """Points y (h, d, n), contiguous, and how far off their constraints are, r (n,), about 1."""

    points: Tensor
    offsets: Tensor

    def select(self, heads: Tensor) -> Cloud:
        """The same for some of the heads."""
        return self if len(heads) == len(self.points) else Cloud(self.points[heads], self.offsets)

    def at(self, rows: Tensor) -> Tensor:
        """The points ``rows`` (h, …) as (h, …, d)."""
        heads, d = self.points.shape[:2]
        flat = rows.reshape(heads, 1, -1).expand(-1, d, -1)
        return self.points.gather(-1, flat).mT.reshape(*rows.shape, d)

    def slack(self, b: Tensor) -> Tensor:
        """r_i + y_i · b for b (h, p, d): (h, p, n)."""
        return self.offsets + b @ self.points


@dataclass(frozen=True)
class Vertices:
    """b (h, p, d), the d points (h, p, d) whose constraints meet there, and whether to trust it (h, p)."""

    at: Tensor
    rows: Tensor
    valid: Tensor


def extreme(cloud: Cloud, direction: Tensor) -> Vertices:
    """The vertex farthest in ``direction`` (h, p, d): one linear program each, by the dual simplex method.

    From the corner of a large box, the most violated constraint enters until none is violated.
    """
    heads, p, d = direction.shape
    signs = torch.where(direction < 0, -1.0, 1.0).to(direction.dtype)
    inverse = torch.diag_embed(-signs * BOX)  # of the matrix of active rows; b = −inverse · right-hand side
    right = torch.ones_like(direction)
    rows = torch.full((heads, p, d), -1, dtype=torch.long, device=direction.device)
    open_ = torch.ones(heads, p, dtype=torch.bool, device=direction.device)
    for _ in range(50 + 20 * d):
        b = -(inverse @ right[..., None])[..., 0]
        worst, entering = cloud.slack(b).min(-1)
        open_ = open_ & (worst < -SLACK * (1 + b.abs().amax(-1)))
        if not bool(open_.any()):
            break
        row = cloud.at(entering)
        w = (row[..., None, :] @ inverse)[..., 0, :]
        multipliers = -(direction[..., None, :] @ inverse)[..., 0, :].clamp(max=0)
        ratio = (multipliers / w).where(w > SLACK, torch.inf)
        step, leaving = ratio.min(-1, keepdim=True)
        open_ = open_ & torch.isfinite(step[..., 0])
        # rank-one change of the inverse: one row is exchanged
        column = inverse.gather(-1, leaving[..., None, :].expand(-1, -1, d, -1))
        pivot = w.gather(-1, leaving)
        change = w - torch.zeros_like(w).scatter_(-1, leaving, 1.0)
        move = open_[..., None]
        inverse = torch.where(move[..., None], inverse - column * (change / pivot)[..., None, :], inverse)
        rows = torch.where(move, rows.scatter(-1, leaving, entering[..., None]), rows)
        right = torch.where(move, right.scatter(-1, leaving, cloud.offsets[entering][..., None]), right)
    return vertices(cloud, rows)


def vertices(cloud: Cloud, rows: Tensor) -> Vertices:
    """Solve for the vertices where the constraints of ``rows`` (h, p, d) meet."""
    at, _, valid = _solve(cloud, rows)
    valid = valid & (cloud.slack(at).amin(-1) > -1e3 * SLACK * (1 + at.abs().amax(-1)))
    return Vertices(at, rows, valid)


def adjacent(cloud: Cloud, rows: Tensor) -> Vertices:
    """The d neighbours of each vertex along its edges: ``rows`` (h, p, d) gives (h, p · d, d)."""
    heads, p, d = rows.shape
    at, inverse, valid = _solve(cloud, rows)
    edges = inverse.mT  # along edge k every active constraint but the k-th stays active
    edges = edges / torch.linalg.vector_norm(edges, dim=-1, keepdim=True)
    slope = (edges.reshape(heads, p * d, d) @ cloud.points).reshape(heads, p, d, -1)
    slack = cloud.slack(at)
    slack.clamp_(min=0).scatter_(-1, rows.clamp(min=0), torch.inf)
    length = torch.linalg.vector_norm(cloud.points, dim=1).amax(-1)[:, None, None, None]
    step, entering = (slack[:, :, None] / -slope).where(slope < -PARALLEL * length, torch.inf).min(-1)
    found = valid[..., None] & torch.isfinite(step)
    there = at[:, :, None] + step.where(found, 0.0)[..., None] * edges
    exchanged = rows[:, :, None].expand(-1, -1, d, -1).clone()
    exchanged.diagonal(dim1=-2, dim2=-1).copy_(entering)
    return Vertices(there.reshape(heads, p * d, d), exchanged.reshape(heads, p * d, d), found.reshape(heads, p * d))


def _solve(cloud: Cloud, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """b (h, p, d), the inverse of the active rows (h, p, d, d), and whether there is one (h, p)."""
    known = rows.clamp(min=0)
    inverse, regular = inverses(cloud.at(known))
    at = -(inverse @ cloud.offsets[known][..., None])[..., 0]
    valid = (rows >= 0).all(-1) & regular
    return at.where(valid[..., None], 0.0), inverse.where(valid[..., None, None], 0.0), valid


SHIFT = 1e-7  # random shifts of the constraints: points that (almost) coincide or share a facet come apart
DEPENDENT = 1e-6  # singular value below which atoms count as dependent
GAIN = 1e-10  # relative improvement of the objective that counts

Candidates = Callable[[Tensor], Vertices]


class Exchange:
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
        self._name_vertices()
        settled = self._repeat(everyone, self._neighbours)
        for _ in range(constants.EXCHANGE_SWEEPS):
            directions = torch.randn(2 * m, m - 1, generator=self.generator, dtype=torch.float64).to(self.x)
            moved = self._exchange(everyone, self._ends_of(everyone, directions.expand(heads, -1, -1)))
            self.rounds += 1
            again = everyone[moved]
            settled[again] = self._repeat(again, self._neighbours)
        return settled & (self.rows >= 0).all(-1).all(-1)

    def result(self) -> Tensor:
        """A (h, m, m), feasible: of the vertices without the shifts of their constraints, or with them if crisper."""
        plain = Cloud(self.cloud.points, torch.ones_like(self.cloud.offsets))
        is_vertex = (self.rows >= 0).all(-1, keepdim=True)
        exact = vertices(plain, self.rows).at.where(is_vertex, self.atoms)
        shifted, _, s = _program(self.atoms)
        s = s.clamp(min=0)
        first = feasible(self.x, _weights(exact, s)[:, None] * _program(exact)[0])
        second = feasible(self.x, s[:, None] * shifted)
        better = crispness(first) >= crispness(second) - SHIFT
        return first.where(better[:, None, None], second)

    def _repeat(self, heads: Tensor, candidates: Candidates) -> Tensor:
        """Exchange until nothing improves; whether that point was reached, (len(heads),)."""
        reached = torch.zeros(len(heads), dtype=torch.bool, device=heads.device)
        left = torch.arange(len(heads), device=heads.device)
        for _ in range(constants.EXCHANGE_ROUNDS):
            if not len(left):
                break
            self.rounds += 1
            moved = self._exchange(heads[left], candidates(heads[left]))
            reached[left[~moved]] = True
            left = left[moved]
        return reached

    def _name_vertices(self) -> None:
        """Atoms of the start that nothing improved on are vertices but for the shifts: put these in their place."""
        unnamed = (self.rows < 0).any(-1)
        if not bool(unnamed.any()):
            return
        ends = self._ends_of_gradients(torch.arange(len(unnamed), device=unnamed.device))
        for column in unnamed.any(0).nonzero()[:, 0].tolist():
            trial = self.atoms.clone()
            trial[:, column] = ends.at[:, column]
            before, after = _multipliers(self.atoms)[1], _multipliers(trial)[1]
            feasible_still = _program(trial)[2].amin(-1) >= -SHIFT
            go = unnamed[:, column] & ends.valid[:, column] & feasible_still & (after >= before - SHIFT * (1 + before))
            self.atoms[go, column], self.rows[go, column] = ends.at[go, column], ends.rows[go, column]

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
        atoms, rows, valid = self.atoms[heads], self.rows[heads], new.valid.clone()
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
            gain = (step * worth).where(valid & (worth > GAIN) & torch.isfinite(step), -1.0)
            best, entering = gain.max(-1)
            go = which[best > GAIN * (1 + y)]
            if not len(go):
                break
            entered, out = entering[go], leaving[go, entering[go]]
            trial = atoms[go].index_put((which[: len(go)], out), new.at[go, entered])
            # an ill-conditioned program may promise what it does not keep, and go round in circles
            kept = _multipliers(trial)[1] > y[go] + 0.5 * GAIN * (1 + y[go])
            valid[go, entered] = False
            go, entered, out = go[kept], entered[kept], out[kept]
            atoms[go], rows[go, out], moved[go] = trial[kept], new.rows[go, entered], True
        self.atoms[heads], self.rows[heads] = atoms, rows
        return moved


def _program(atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The basis matrix with columns (1, b_j), its inverse, and s with Σ s_j (1, b_j) = (1, 0)."""
    matrix = torch.cat([torch.ones_like(atoms[..., :1]), atoms], -1).mT
    inverse, _ = inverses(matrix)
    return matrix, inverse, inverse[..., 0]


def _multipliers(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """c (h, d) and y (h,) with y + 2 c · b_j = |b_j|² for every atom; y = Σ_j s_j |b_j|² is the objective."""
    _, inverse, _ = _program(atoms)
    values = (atoms.square().sum(-1)[..., None, :] @ inverse)[..., 0, :]
    return values[..., 1:] / 2, values[..., 0]


def _weights(atoms: Tensor, s: Tensor) -> Tensor:
    """s ≥ 0 (h, m) with Σ s_j (1, b_j) = (1, 0), zero for atoms that are not needed where some depend on others.

    Without the shifts of the constraints two atoms may be one, or three on a line. Along a null vector
    of the matrix weight goes from one to others, in the direction that is not less crisp, until one
    weight is zero; in the end the atoms with weight are independent. ``s`` are the weights with shifts.
    """
    m = atoms.shape[1]
    matrix, _, _ = _program(atoms)
    size = torch.linalg.vector_norm(matrix, dim=-2)
    matrix, value, s = matrix / size[:, None], atoms.square().sum(-1) / size, s * size
    needed = torch.ones_like(size)
    for _ in range(m - 1):
        left = matrix * needed[:, None]
        least, vectors = torch.linalg.eigh(left.mT @ left + torch.diag_embed(1 - needed))
        singular = least[:, 0] < DEPENDENT**2
        if not bool(singular.any()):
            break
        z = vectors[..., 0] * needed
        z = torch.where(((z * value).sum(-1) < 0)[:, None], -z, z)
        step, out = (s / -z).where(z < -DEPENDENT, torch.inf).min(-1, keepdim=True)
        go = singular[:, None] & torch.isfinite(step)
        s = torch.where(go, (s + step * z).clamp(min=0).scatter(-1, out, 0.0), s)
        needed = torch.where(go, needed.scatter(-1, out, 0.0), needed)
    exact = torch.linalg.pinv(matrix * needed[:, None], rtol=1e-2 * DEPENDENT)[..., 0]
    return exact.clamp(min=0) * needed / size
