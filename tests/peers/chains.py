"""Chains that every peer is asked about."""

from __future__ import annotations

import numpy as np
import torch

from tests.markov import heads, strategies
from tokenrank.operators import Operator, from_weights

Array = np.ndarray


def operator(a: Array) -> Operator:
    return from_weights(torch.from_numpy(np.asarray(a, dtype=np.float64)))


def random(n: int, kind: str = "random", leak: float = 0.0) -> Array:
    return strategies.make(kind, n, np.random.default_rng(n), leak)


def six() -> Array:
    """0 ↔ 1; 2 → {0, 3}; 3 → 4 → 5 → 3: a transient token and recurrent classes of periods 2 and 3."""
    a = np.zeros((6, 6))
    a[[0, 1, 3, 4, 5], [1, 0, 4, 5, 3]] = 1
    a[2, [0, 3]] = 0.5
    return a


def two_blocks() -> Array:
    a = np.zeros((6, 6))
    a[:4, :4] = 0.25
    a[4:, 4:] = [[0.9, 0.1], [0.1, 0.9]]
    return a


def ruin(size: int = 4) -> Array:
    """A fair gambler between two absorbing ends."""
    a = np.eye(size)
    for i in range(1, size - 1):
        a[i, [i - 1, i, i + 1]] = 0.5, 0, 0.5
    return a


def reversible(n: int) -> Array:
    weights = np.random.default_rng(n).random((n, n))
    weights = weights + weights.T
    return weights / weights.sum(1, keepdims=True)


NOT_UNIQUE = np.array([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1.0]])
IRREDUCIBLE = {f"random {n}": random(n) for n in (2, 3, 8, 25, 60)} | {
    name: heads.nine_heads()[name] for name in ("peaky random", "2-D local", "3 clusters", "sink")
}
REDUCIBLE = {"six": six(), "two blocks": two_blocks(), "not unique": NOT_UNIQUE, "ruin": ruin(6)} | {
    f"{kind} {n}": random(n, kind)
    for kind in ("zeros", "absorbing", "permutation", "nearly reducible")
    for n in (5, 9, 20)
}
