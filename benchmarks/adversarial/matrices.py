"""Families of matrices: far from normal, periodic, and of known structure."""

from __future__ import annotations

import numpy as np
import torch

from .chains import Spec, Weights
from .registry import (
    HALVES,
    WIDE,
    Batch,
    Generator,
    any_way,
    dirichlet,
    family,
    per_head,
    pick,
    query_key,
    rows,
    shuffled,
    tensor,
    weights,
)

# ---- far from normal


@family("path to the end")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.eye(n, k=1)
    a[-1, -1] = 1
    return weights(np.broadcast_to(shuffled(rng, a), (*batch, n, n)), pick(rng, WIDE))


@family("hot softmax of a path")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.eye(n, k=1)
    a[-1, -1] = 1
    noise = pick(rng, [0.0, 0.5]) * rng.standard_normal((*batch, n, n))
    return any_way(rng, pick(rng, [8.0, 15.0, 30.0]) * shuffled(rng, a) + noise)


@family("Jordan chains")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    stay = per_head(rng, batch, lambda r: float(r.choice([0.0, 0.1, 0.5, 0.9, 1 - 1e-6])))
    a = stay * np.eye(n) + (1 - stay) * np.eye(n, k=1)
    a[..., -1, :] = np.eye(n)[-1]
    return weights(shuffled(rng, a))


@family("Jordan chains with a way back")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    stay = per_head(rng, batch, lambda r: float(r.choice([0.0, 0.1, 0.5, 0.9])))
    back = per_head(rng, batch, lambda r: 10 ** -r.uniform(2, 20))
    a = stay * np.eye(n) + (1 - stay) * np.eye(n, k=1)
    a[..., -1, :] = np.eye(n)[-1]
    return weights(shuffled(rng, a + back * dirichlet(rng, batch, n)))


@family("triangular in another order")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return weights(shuffled(rng, np.tril(dirichlet(rng, batch, n, 0.3)) + 1e-6 * np.eye(n)))


# ---- periodic


@family("permutation")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    if rng.random() < 0.05:
        batch, n = (82,), 8  # LAPACK gives up on one in so many
    heads = int(np.prod(batch, dtype=int))
    return weights(np.stack([np.eye(n)[rng.permutation(n)] for _ in range(heads)]).reshape(*batch, n, n))


@family("nearly a permutation")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    leak = per_head(rng, batch, lambda r: 10 ** -r.uniform(1, 18))
    return weights(np.eye(n)[rng.permutation(n)] + leak * dirichlet(rng, batch, n))


@family("cycle")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return weights(np.broadcast_to(shuffled(rng, np.roll(np.eye(n), 1, 1)), (*batch, n, n)))


@family("cycle with noise")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    share = per_head(rng, batch, lambda r: float(r.choice([1e-12, 1e-6, 1e-3, 0.05, 0.3])))
    return weights((1 - share) * np.roll(np.eye(n), 1, 1) + share * dirichlet(rng, batch, n))


@family("several cycles and ways in")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.zeros((n, n))
    start = int(rng.integers(0, n))  # tokens before it are transient
    at = start
    while at < n:
        length = int(rng.integers(1, n - at + 1))
        ring = np.arange(at, at + length)
        a[ring, np.roll(ring, -1)] = 1
        at += length
    a[:start] = rows(rng.random((start, n)) * (rng.random((start, n)) < 0.4) + 1e-9 * np.eye(n)[-1])
    return weights(np.broadcast_to(shuffled(rng, a), (*batch, n, n)))


@family("two halves in turn")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    side = np.arange(n) % 2
    a = dirichlet(rng, batch, n) * (side[:, None] != side)
    if n == 1:
        a = np.ones((*batch, 1, 1))
    return weights(a, pick(rng, WIDE))


# ---- with known structure


@family("birth and death")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    up, down = 0.5 * rng.random((2, *batch, n)) ** pick(rng, [1, 4, 20])
    a = np.zeros((*batch, n, n))
    i = np.arange(n - 1)
    a[..., i, i + 1], a[..., i + 1, i] = up[..., :-1] + 1e-18, down[..., 1:] + 1e-18
    return weights(a + np.eye(n) * (1 - a.sum(-1, keepdims=True)))


@family("Kandori, Mailath and Rob")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    """Sequential best responses with mutations (1993), as QuantEcon's tests have them."""
    players, p, rare = max(n, 3) - 1, 1 / 3, pick(rng, [0.1, 1e-2, 1e-6, 1e-14])
    a = np.zeros((players + 1, players + 1))
    a[0, 1] = a[players, players - 1] = rare / 2
    for x in range(1, players):
        others = (x - 1) / (players - 1), x / (players - 1)
        a[x, x - 1] = x / players * (rare / 2 + (1 - rare) * ((others[0] < p) + 0.5 * (others[0] == p)))
        a[x, x + 1] = (players - x) / players * (rare / 2 + (1 - rare) * ((others[1] > p) + 0.5 * (others[1] == p)))
    a += np.diag(1 - a.sum(1))
    return weights(np.broadcast_to(a, (*batch, *a.shape)))


@family("rank one")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.repeat(dirichlet(rng, batch, n)[..., :1, :], n, -2)
    return weights(a, pick(rng, [*WIDE, *HALVES]))


@family("identity, or nearly")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    leak = per_head(rng, batch, lambda r: float(r.choice([0.0, 1e-300, 1e-17, 1e-12])))
    return weights(np.eye(n) + leak * dirichlet(rng, batch, n))


@family("absorbing")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    stuck = rng.random((*batch, n, 1)) < 0.4
    return weights(np.where(stuck, np.eye(n), dirichlet(rng, batch, n, 0.3)), pick(rng, WIDE))


@family("duplicated rows")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    few = rng.integers(0, max(1, n // 3), n)
    return weights(dirichlet(rng, batch, n, 0.3)[..., few, :], pick(rng, WIDE))


@family("denormal rows")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = dirichlet(rng, batch, n)
    some = rng.random((*batch, n, n)) < 0.5
    some[..., np.arange(n), rng.integers(0, n, n)] = False
    return Weights(tensor(rows(np.where(some, 0, a)) + np.where(some, 10 ** -rng.uniform(300, 323, a.shape), 0)))


@family("star")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.zeros((n, n))
    a[:, 0] = 1
    a[0] = rng.dirichlet(np.ones(n)) if rng.random() < 0.5 else 1 / n
    if rng.random() < 0.5 and n > 1:
        a[0, 0] = 0
    leak = per_head(rng, batch, lambda r: float(r.choice([0.0, 1e-12, 0.1])))
    return weights(a + leak * dirichlet(rng, batch, n))


@family("random sparse")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    share = min(1.0, pick(rng, [1.0, 1.5, 3.0]) / n)
    a = dirichlet(rng, batch, n) * (rng.random((*batch, n, n)) < share)
    a[..., np.arange(n), rng.integers(0, n, n)] += 1e-2
    return weights(a, pick(rng, WIDE))


@family("small fractions", largest=8)
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    """Rows of eighths and of powers of two: exact in float64, so that fractions are the whole truth."""
    a = np.zeros((int(np.prod(batch, dtype=int)), n, n))
    for matrix in a:
        for row in matrix:
            np.add.at(row, rng.integers(0, n, 8), 0.125)
    return Weights(tensor(a.reshape(*batch, n, n)))


@family("many tokens", largest=300)
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    n = int(rng.integers(100, 300))
    kind = pick(rng, ["path", "hot path", "qk", "clusters", "cycle", "sparse"])
    if kind.endswith("path"):
        stay = pick(rng, [0.0, 0.0, 0.5])
        a = stay * np.eye(n) + (1 - stay) * np.eye(n, k=1)
        a[-1, -1] = 1
        if kind == "path":
            return weights(np.broadcast_to(shuffled(rng, a), (*batch, n, n)))
        return any_way(rng, 15 * shuffled(rng, a) + np.zeros((*batch, n, n)))
    if kind == "qk":
        return query_key(rng, batch, n, torch.float32)
    if kind == "cycle":
        return weights(np.roll(np.eye(n), 1, 1) + 0.05 * dirichlet(rng, batch, n))
    if kind == "sparse":
        a = dirichlet(rng, batch, n) * (rng.random((*batch, n, n)) < 1.5 / n)
        a[..., np.arange(n), rng.integers(0, n, n)] += 1e-2
        return weights(a)
    label = rng.integers(0, 4, n)
    return any_way(rng, 12.0 * (label[:, None] == label) + rng.standard_normal((*batch, n, n)))
