"""Concept maps in plain NumPy, float64, from dense matrices: what the definitions say, and nothing faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def censored(a: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The stochastic complement of the kept tokens."""
    gone = [token for token in range(len(a)) if token not in set(kept)]
    inside = a[np.ix_(kept, kept)]
    if not gone:
        return inside
    back = np.linalg.solve(np.eye(len(gone)) - a[np.ix_(gone, gone)], a[np.ix_(gone, kept)])
    return inside + a[np.ix_(kept, gone)] @ back


def dropped(heads: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """Softmax over the kept keys alone, in every head."""
    part = heads[:, kept][:, :, kept]
    return part / part.sum(-1, keepdims=True)


def turned(a: np.ndarray, word: Sequence[int]) -> np.ndarray:
    """The reversed chain in which the tokens of the word count as one."""
    measure = np.ones(len(a))
    measure[list(word)] = 1 / len(word)
    joint = measure[:, None] * a
    return (joint / joint.sum(0)).T


def start(n: int, word: Sequence[int]) -> np.ndarray:
    v = np.zeros(n)
    v[list(word)] = 1 / len(word)
    return v


def bounce(a: np.ndarray, word: Sequence[int], n: int, direction: str) -> np.ndarray:
    towards = a if direction == "forward" else turned(a, word)
    return start(len(a), word) @ np.linalg.matrix_power(towards, n)


def ranked(a: np.ndarray, word: Sequence[int], alpha: float, direction: str) -> np.ndarray:
    towards = a if direction == "forward" else turned(a, word)
    return (1 - alpha) * np.linalg.solve(np.eye(len(a)) - alpha * towards.T, start(len(a), word))


def absorbed(a: np.ndarray, words: Sequence[Sequence[int]]) -> np.ndarray:
    """Probability of being on a word of each set before any other, (N, W)."""
    ends = sorted(token for word in words for token in word)
    inside = [token for token in range(len(a)) if token not in ends]
    into = np.stack([a[np.ix_(inside, list(word))].sum(-1) for word in words], -1)
    out = np.zeros((len(a), len(words)))
    out[inside] = np.linalg.solve(np.eye(len(inside)) - a[np.ix_(inside, inside)], into)
    for column, word in enumerate(words):
        out[list(word), column] = 1
    return out


def normal(values: np.ndarray) -> np.ndarray:
    return values / values.sum()


def stationary(a: np.ndarray, alpha: float = 0.99) -> np.ndarray:
    n = len(a)
    return np.linalg.solve(np.eye(n) - alpha * a.T, np.full(n, (1 - alpha) / n))


def best_cut(a: np.ndarray, values: np.ndarray) -> float:
    """The threshold whose upper set has the least P(leaves | in) + P(enters | outside)."""
    weights = stationary(a)
    found = []
    for level in np.unique(values)[:-1]:
        s = values > level
        flow = weights[:, None] * a
        found.append((flow[s][:, ~s].sum() / weights[s].sum() + flow[~s][:, s].sum() / weights[~s].sum(), level))
    return min(found)[1]
