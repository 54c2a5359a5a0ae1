"""Vertices of the polar of a cloud of points: {b : r_i + y_i · b ≥ 0 for every point i}.

A vertex is the hyperplane of a facet of the convex hull, so this walks over facets without ever
building the hull. Batched: h clouds of n points in d dimensions, p vertices of each at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
    inverse, info = torch.linalg.inv_ex(cloud.at(known))
    at = -(inverse @ cloud.offsets[known][..., None])[..., 0]
    valid = (rows >= 0).all(-1) & (info == 0) & torch.isfinite(inverse).all(-1).all(-1)
    return at.where(valid[..., None], 0.0), inverse.where(valid[..., None, None], 0.0), valid
