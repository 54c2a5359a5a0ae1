"""Graphs on patches, and their smallest normalised cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, require


class Cut(NamedTuple):
    """The relaxed smallest normalised cut of a graph.

    Attributes:
        vector: (P,), float64, second eigenvector, normalised to xᵀDx = 1; its entry of largest modulus (the
            first of several) is positive. All zeros where no cut is better than another.
        value: its eigenvalue λ, from 0 (the graph falls apart) to 2.
        gap: λ₃ − λ₂; where it is 0 the vector is one of several right answers. Infinite for two patches.
    """

    vector: Tensor
    value: float
    gap: float


def checked_features(features: Tensor, grid: tuple[int, int] | None = None, centre: bool = False) -> Tensor:
    """Features (P, d) in float64, without their mean over the patches where ``centre``.

    Raises:
        InputError: not (P, d), fewer than two patches, not the grid's number of them, NaN or infinite entries.
    """
    if features.ndim != 2 or features.shape[1] < 1:
        raise InputError(f"features have shape {tuple(features.shape)}, expected (patches, dimensions)")
    count = features.shape[0]
    if grid is not None and count != grid[0] * grid[1]:
        raise InputError(f"{count} features for a grid of {grid[0]} × {grid[1]} patches; give one a patch")
    if count < 2:
        raise InputError(f"{count} patch, expected two at least: there is nothing to divide; take a larger picture")
    if not torch.isfinite(features).all():
        raise InputError(f"{int((~torch.isfinite(features)).sum())} entries of the features are NaN or infinite")
    features = features.double()
    return features - features.mean(0) if centre else features


def similarities(features: Tensor, normalise: bool = True) -> Tensor:
    """F Fᵀ (P, P) in float64, of unit features where ``normalise`` (a feature of zeros stays one)."""
    features = features.double()
    features = F.normalize(features, dim=-1) if normalise else features
    return features @ features.T


def smallest_cut(weights: Tensor) -> Cut:
    """Second smallest solution of (D − W) x = λ D x, in float64.

    Solved as the symmetric problem of I − D^(−1/2) W D^(−1/2), whose vectors are D^(1/2) x. [Shi and Malik 2000, eqs.
    6 and 7, R]

    Where the answer is not one vector:
        - A graph in several pieces (ties of 1e-12 of the degrees do not hold) has λ = 0 several times. The piece with
          the largest sum of degrees, the first of several, then stands against all others: the one vector that is
          constant on both sides.
        - Where all cuts are alike (W equal everywhere; nothing similar to anything) the vector is zero.
        - Any other repeated eigenvalue shows as ``gap`` = 0.

    Args:
        weights: W (P, P), symmetric, ≥ 0.

    Raises:
        InputError: not such weights, fewer than two patches, or a patch without any weight.
        MissingExtraError: scipy is not installed.
    """
    weights = _checked_weights(weights)
    count, degrees = weights.shape[0], weights.sum(-1)
    roots = degrees.sqrt()
    coupling = (weights / torch.outer(roots, roots)).cpu()
    laplacian = torch.eye(count, dtype=torch.float64) - coupling
    pieces, labels = _pieces(coupling)
    if count > 2 and _only_one_value(laplacian, roots.cpu()):
        return Cut(torch.zeros_like(degrees), float(laplacian.trace()) / (count - 1), 0.0)
    values, vectors = _lowest(laplacian, min(3, count))
    gap = float(values[2] - values[1]) if count > 2 else float("inf")
    if pieces > 1:
        return Cut(_largest_against_rest(degrees, labels.to(degrees.device)), 0.0, gap if pieces == 2 else 0.0)
    vector = torch.from_numpy(np.ascontiguousarray(vectors[:, 1])).to(weights.device) / roots
    return Cut(oriented(vector), float(values[1]), gap)


def strongest(vector: Tensor) -> int:
    """Index of the entry of largest modulus; of several that agree to 1e-9 the first."""
    sizes = vector.abs()
    return int((sizes >= (1 - 1e-9) * sizes.max()).nonzero()[0])


def oriented(vector: Tensor) -> Tensor:
    """The vector or its negative: with a positive strongest entry."""
    return -vector if vector[strongest(vector)] < 0 else vector


def knn_matting_affinity(
    colours: Tensor, neighbours: Sequence[int] = (20, 10), distance_weights: Sequence[float] = (2.0, 0.1)
) -> Tensor:
    """Which cells are alike in colour and place: KNN matting with binary weights (Chen, Li and Tang 2012), (P, P).

    For every pair (k, w), each cell is joined with its k nearest cells, itself included, in (r, g, b, w·x, w·y) with
    x and y from 0 to 1. An entry counts how often i chose j or j chose i. Neighbours and weights of distance are
    those of Deep Spectral Methods [V]; the binary weights and the counting in both directions are recalled [R].

    Args:
        colours: (rows, columns, 3), from 0 to 1.
        neighbours: k; at most all P cells are taken.
        distance_weights: w, one for each k.

    Raises:
        InputError: colours of another shape or range, or not one weight for each k ≥ 1.
        MissingExtraError: scikit-learn is not installed.
    """
    if colours.ndim != 3 or colours.shape[-1] != 3 or not colours.numel():
        raise InputError(f"colours have shape {tuple(colours.shape)}, expected (rows, columns, 3)")
    low, high = float(colours.min()), float(colours.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"colours go from {low:.4g} to {high:.4g}, expected 0 to 1; divide bytes by 255")
    if len(neighbours) != len(distance_weights) or not all(k >= 1 for k in neighbours):
        raise InputError(f"neighbours = {neighbours} for distance_weights = {distance_weights}, expected a k ≥ 1 each")
    rows, columns = colours.shape[:2]
    count = rows * columns
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    place = np.stack([x, y], -1).reshape(count, 2)
    shades = colours.double().cpu().numpy().reshape(count, 3)
    chosen = np.zeros((count, count))
    search = require("sklearn.neighbors", "evaluate").NearestNeighbors
    for k, weight in zip(neighbours, distance_weights, strict=True):
        points = np.hstack([shades, weight * place])
        nearest = search(n_neighbors=min(k, count)).fit(points).kneighbors(points, return_distance=False)
        np.add.at(chosen, (np.arange(count)[:, None], nearest), 1)
    return torch.from_numpy(chosen + chosen.T).to(colours.device)


def _checked_weights(weights: Tensor) -> Tensor:
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or weights.shape[0] < 2:
        raise InputError(f"weights have shape {tuple(weights.shape)}, expected (P, P) with two patches at least")
    weights = weights.double()
    if not torch.isfinite(weights).all() or weights.min() < 0:
        raise InputError(f"weights go from {weights.min():.4g} to {weights.max():.4g}, expected finite ones ≥ 0")
    if (weights - weights.T).abs().max() > 1e-9 * weights.max():
        raise InputError("weights are not symmetric; give (W + Wᵀ) / 2")
    empty = (weights.sum(-1) <= 0).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"{len(empty)} of {weights.shape[0]} patches have no weight at all, patch {empty[0]} first; "
            "expected every patch to resemble one, itself at least: are its features all zero?"
        )
    return weights


def _pieces(coupling: Tensor) -> tuple[int, Tensor]:
    # below this, rounding of a sum of squares looks like a tie between patches that have nothing in common
    graph = require("scipy.sparse", "evaluate").csr_array(coupling.numpy() > 1e-12)
    count, labels = require("scipy.sparse.csgraph", "evaluate").connected_components(graph, directed=False)
    return int(count), torch.from_numpy(labels).long()


def _largest_against_rest(degrees: Tensor, labels: Tensor) -> Tensor:
    volumes = torch.zeros(int(labels.max()) + 1, dtype=torch.float64, device=degrees.device)
    volumes = volumes.index_add(0, labels, degrees)
    inside = labels == strongest(volumes)
    most, rest = degrees[inside].sum(), degrees[~inside].sum()
    # constant on both sides, D-orthogonal to the constant vector, xᵀDx = 1
    vector = torch.where(inside, rest, -most) / (most * rest * (most + rest)).sqrt()
    return oriented(vector)


def _only_one_value(laplacian: Tensor, roots: Tensor) -> bool:
    """Whether all eigenvalues but the first are one: L = c (I − u uᵀ) with u along D^(1/2) 1."""
    unit = roots / roots.norm()
    projector = torch.eye(len(roots), dtype=torch.float64) - torch.outer(unit, unit)
    constant = laplacian.trace() / (len(roots) - 1)
    return bool((laplacian - constant * projector).abs().max() < 1e-12)


def _lowest(symmetric: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    eigh = require("scipy.linalg", "evaluate").eigh
    values, vectors = eigh(symmetric.numpy(), subset_by_index=[0, count - 1])
    return values, vectors
