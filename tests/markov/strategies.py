"""Chains that break solvers: reducible, periodic, absorbing, nearly all of these, and tiny."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

KINDS = [
    "random",
    "peaky",
    "zeros",
    "nearly reducible",
    "cycle",
    "nearly a cycle",
    "permutation",
    "identity",
    "absorbing",
    "rank one",
    "birth and death",
    "half precision",
    "one state",
]


@st.composite
def chains(draw: st.DrawFn, kinds: list[str] = KINDS, largest: int = 24) -> np.ndarray:
    """A stochastic matrix (N, N) in float64."""
    kind = draw(st.sampled_from(kinds))
    n = 1 if kind == "one state" else draw(st.integers(2, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    leak = draw(st.sampled_from([0.0, 1e-300, 1e-16, 1e-12, 1e-8, 1e-4, 0.1]))
    return make(kind, n, rng, leak)


def make(kind: str, n: int, rng: np.random.Generator, leak: float) -> np.ndarray:
    """One chain; ``leak`` is how much it lets through where it is nearly reducible or periodic."""
    random = rng.dirichlet(np.ones(n), n)
    shift = np.roll(np.eye(n), 1, 1)
    if kind == "random" or kind == "one state":
        a = random
    elif kind == "peaky":
        a = np.exp(30 * rng.standard_normal((n, n)))
    elif kind == "zeros":
        a = random * (rng.random((n, n)) < 0.3)
        a[np.arange(n), rng.integers(0, n, n)] += 1e-3
    elif kind == "nearly reducible":
        label = rng.integers(0, 3, n)
        a = random * np.where(label[:, None] == label, 1, leak)
        a[np.arange(n), np.arange(n)] += 1e-3
    elif kind == "cycle":
        a = shift
    elif kind == "nearly a cycle":
        a = shift + leak * random
    elif kind == "permutation":
        a = np.eye(n)[rng.permutation(n)]
    elif kind == "identity":
        a = np.eye(n)
    elif kind == "absorbing":
        stuck = rng.random(n) < 0.4
        a = np.where(stuck[:, None], np.eye(n), random)
    elif kind == "rank one":
        a = np.tile(random[0], (n, 1))
    elif kind == "birth and death":
        up, down = rng.random((2, n)) * 0.5
        a = np.diag(up[:-1], 1) + np.diag(np.maximum(down[1:], leak), -1)
        a = a + np.diag(1 - a.sum(1))
    elif kind == "half precision":
        a = random.astype(np.float16).astype(np.float64)
        a[a.sum(1) == 0, 0] = 1
    else:
        raise ValueError(kind)
    return a / a.sum(1, keepdims=True)


@st.composite
def jumps(draw: st.DrawFn, n: int) -> np.ndarray:
    """A distribution over n tokens: even, a random one, or one token."""
    kind = draw(st.sampled_from(["even", "random", "one token"]))
    if kind == "even":
        return np.full(n, 1 / n)
    if kind == "one token":
        return np.eye(n)[draw(st.integers(0, n - 1))]
    return np.random.default_rng(draw(st.integers(0, 2**20))).dirichlet(np.ones(n))
