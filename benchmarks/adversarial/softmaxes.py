"""Families of softmaxes: temperatures, precisions, masks, and blocks that hardly attend to one another."""

from __future__ import annotations

import numpy as np
import torch

from .chains import Scores, Spec, Weights
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
    temperature,
    tensor,
    weights,
)

# ---- softmaxes


@family("softmax of q, k in float32")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return query_key(rng, batch, n, torch.float32)


@family("softmax of q, k in float64")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return query_key(rng, batch, n, torch.float64)


@family("softmax of q, k in half precision")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return query_key(rng, batch, n, pick(rng, HALVES))


@family("softmax of scores")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    logits = per_head(rng, batch, temperature) * rng.standard_normal((*batch, n, n))
    logits = np.clip(logits, -6e4, 6e4)
    return Scores(tensor(logits, pick(rng, [*WIDE, *HALVES])))


@family("stored softmax")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    logits = per_head(rng, batch, temperature) * rng.standard_normal((*batch, n, n))
    return Weights(tensor(logits).softmax(-1).to(pick(rng, [*WIDE, *HALVES])))


@family("causal")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    if rng.random() < 0.6:
        return query_key(rng, batch, n, pick(rng, WIDE), causal=True)
    logits = per_head(rng, batch, temperature) * rng.standard_normal((*batch, n, n))
    return Scores(tensor(np.where(np.tri(n) > 0, logits, -np.inf), pick(rng, WIDE)))


@family("causal with equal diagonals")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    a = np.tril(dirichlet(rng, batch, n), -1)
    stay = pick(rng, [0.0, 0.25, 0.5, 0.999])
    a = np.where(a.sum(-1, keepdims=True) > 0, (1 - stay) * a / np.maximum(a.sum(-1, keepdims=True), 1e-300), 0)
    a = a + stay * np.eye(n)
    a[..., 0, :] = np.eye(n)[0]
    return weights(a, pick(rng, WIDE))


@family("random mask")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    shape = (n, n) if rng.random() < 0.5 else (*batch, n, n)
    seen = rng.random(shape) < pick(rng, [0.1, 0.3, 0.7])
    seen |= np.eye(n, dtype=bool) if rng.random() < 0.5 else np.eye(n, dtype=bool)[rng.permutation(n)]
    return query_key(rng, batch, n, pick(rng, WIDE), mask=torch.from_numpy(seen))


@family("banded mask")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    i = np.arange(n)
    seen = abs(i[:, None] - i) <= int(rng.integers(0, 3))
    if rng.random() < 0.3:
        seen &= i[:, None] >= i
    return query_key(rng, batch, n, pick(rng, WIDE), mask=torch.from_numpy(seen))


@family("padding")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    seen = np.ones((*batch[:-1], *([1] if batch else []), 1, n), dtype=bool)
    seen[..., n - int(rng.integers(0, n)) :] = False
    return query_key(rng, batch, n, pick(rng, WIDE), mask=torch.from_numpy(seen), causal=bool(rng.random() < 0.3))


@family("added mask")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    dtype = pick(rng, WIDE)
    bias = pick(rng, [1.0, 30.0, 300.0]) * rng.standard_normal((n, n))
    bias[rng.random((n, n)) < 0.3] = -np.inf
    bias[np.arange(n), rng.integers(0, n, n)] = 0.0
    return query_key(rng, batch, n, dtype, mask=tensor(bias, dtype), causal=False)


@family("blocks of a mask")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    label = rng.integers(0, int(rng.integers(1, 4)), n)
    return query_key(rng, batch, n, pick(rng, WIDE), mask=torch.from_numpy(label[:, None] == label))


@family("keys that nobody attends to")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    logits = rng.standard_normal((*batch, n, n))
    logits[..., rng.integers(0, n)] -= pick(rng, [30.0, 95.0, 112.0, 400.0, 700.0, 5000.0])
    return any_way(rng, logits)


@family("one state")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    return (
        query_key(rng, batch, 1, pick(rng, [*WIDE, *HALVES]))
        if rng.random() < 0.8
        else weights(np.ones((*batch, 1, 1)))
    )


# ---- nearly reducible


@family("two blocks, logit gaps")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    n = max(n, 2)
    label = np.arange(n) < int(rng.integers(1, n))
    gaps = rng.uniform(20, pick(rng, [60.0, 200.0, 700.0]), 2)
    gap = np.where(label[:, None], gaps[0], gaps[1]) * (label[:, None] != label)
    return any_way(rng, 0.5 * rng.standard_normal((*batch, n, n)) - gap)


@family("several blocks, logit gaps")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    label = rng.integers(0, 4, n)
    gap = rng.uniform(20, pick(rng, [40.0, 100.0, 700.0]), (n, n)) * (label[:, None] != label)
    return any_way(rng, rng.standard_normal((*batch, n, n)) - gap)


@family("several blocks, stored leaks")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    label = rng.integers(0, 3, n)
    leak = 10 ** -rng.uniform(1, pick(rng, [12.0, 40.0, 300.0]), (*batch, n, n))
    a = dirichlet(rng, batch, n) * np.where(label[:, None] == label, 1, leak) + 1e-3 * np.eye(n)
    return weights(a)


@family("sticky")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    leak = 10 ** -rng.uniform(1, 20, (*batch, n, 1))
    return weights((1 - leak) * np.eye(n) + leak * dirichlet(rng, batch, n), pick(rng, WIDE))


@family("clusters")
def _(rng: Generator, batch: Batch, n: int) -> Spec:
    label = rng.integers(0, int(rng.integers(2, 5)), n)
    logits = pick(rng, [3.0, 8.0, 15.0]) * (label[:, None] == label) + rng.standard_normal((*batch, n, n))
    return any_way(rng, logits)
