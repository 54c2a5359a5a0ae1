"""Exact answers by other means: elimination and dense eigenvalues, in float64."""

from __future__ import annotations

import numpy as np


def gth(a: np.ndarray) -> np.ndarray:
    """Stationary distribution of an irreducible chain, exact to rounding in every entry.

    Grassmann, Taksar and Heyman (1985): state reduction without a subtraction, so that no
    conditioning enters, however nearly reducible the chain is.
    """
    a = np.array(a, dtype=np.float64)
    n = len(a)
    for k in range(n - 1, 0, -1):
        a[:k, k] /= a[k, :k].sum()
        a[:k, :k] += np.outer(a[:k, k], a[k, :k])
    pi = np.ones(n)
    for k in range(1, n):
        pi[k] = pi[:k] @ a[:k, k]
    return pi / pi.sum()


def pagerank(a: np.ndarray, alpha: float, jump: np.ndarray | None = None) -> np.ndarray:
    """π = α Aᵀ π + (1 − α) v with v uniform by default; alpha < 1 and v > 0, or A irreducible."""
    jump = np.full(len(a), 1 / len(a)) if jump is None else jump
    return gth(alpha * np.asarray(a, dtype=np.float64) + (1 - alpha) * jump)


def linear_solve(a: np.ndarray, alpha: float, jump: np.ndarray) -> np.ndarray:
    """The same by elimination with pivots, for jumps to a few tokens only; error about ε / (1 − α)."""
    x = np.linalg.solve(np.eye(len(a)) - alpha * np.asarray(a, dtype=np.float64).T, (1 - alpha) * jump)
    return x / x.sum()


def second_modulus(a: np.ndarray) -> float:
    """|λ2|, from all eigenvalues of A."""
    if len(a) == 1:
        return 0.0
    return float(np.sort(np.abs(np.linalg.eigvals(np.asarray(a, dtype=np.float64))))[-2])


def reverse(a: np.ndarray) -> np.ndarray:
    return (a / a.sum(0)).T
