"""Chains in sixty digits: what no format underflows or overflows, for small N. Arrays of mpmath numbers."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

mpmath.mp.dps = 60

Exact = Any  # numpy array of mpmath.mpf


def exact(values: Tensor) -> Exact:
    """A tensor as it is stored."""
    flat = [mpmath.mpf(v) if math.isfinite(v) else (mpmath.inf if v > 0 else -mpmath.inf) for v in numbers(values)]
    return np.array(flat, dtype=object).reshape(tuple(values.shape))


def numbers(values: Tensor) -> list[float]:
    return values.double().flatten().tolist()


def logits(q: Tensor, k: Tensor, scale: float, mask: Tensor | None = None, is_causal: bool = False) -> Exact:
    """Of one chain, q and k (N, d); −inf where masked."""
    out = mpmath.mpf(scale) * (exact(q) @ exact(k).T)
    n = len(out)
    if mask is not None:
        full = mask.expand(n, n)
        added = exact(torch.where(full, 0.0, -math.inf)) if mask.dtype == torch.bool else exact(full)
        out = out + added
    if is_causal:
        out = np.array([[out[i, j] if j <= i else -mpmath.inf for j in range(n)] for i in range(n)], dtype=object)
    return out


def softmax(s: Exact) -> Exact:
    return rows_to_one(np.vectorize(mpmath.exp, otypes=[object])(s - s.max(-1, keepdims=True)))


def rows_to_one(a: Exact) -> Exact:
    return a / a.sum(-1, keepdims=True)


def reverse(a: Exact) -> Exact:
    return rows_to_one(a.T)


def restrict(a: Exact, keep: list[int]) -> Exact:
    return rows_to_one(a[np.ix_(keep, keep)])


def teleport(a: Exact, alpha: float, jump: Tensor) -> Exact:
    return mpmath.mpf(alpha) * a + (1 - mpmath.mpf(alpha)) * exact(jump)[None, :]


def lazy(a: Exact, beta: float) -> Exact:
    return mpmath.mpf(beta) * a + (1 - mpmath.mpf(beta)) * identity(len(a))


def mix(chains: list[Exact], weights: list[float]) -> Exact:
    return sum(mpmath.mpf(w) * a for w, a in zip(weights, chains, strict=True)) / sum(map(mpmath.mpf, weights))


def returns(a: Exact, keep: list[int]) -> Exact:
    """(I − A_RR)⁻¹ A_RS."""
    gone = [i for i in range(len(a)) if i not in keep]
    inside = mpmath.matrix((identity(len(gone)) - a[np.ix_(gone, gone)]).tolist())
    return np.array((inside**-1).tolist(), dtype=object) @ a[np.ix_(gone, keep)]


def censor(a: Exact, keep: list[int]) -> Exact:
    gone = [i for i in range(len(a)) if i not in keep]
    return a[np.ix_(keep, keep)] + a[np.ix_(keep, gone)] @ returns(a, keep)


def identity(n: int) -> Exact:
    return np.array([[mpmath.mpf(i == j) for j in range(n)] for i in range(n)], dtype=object)


def tensor(a: Exact) -> Tensor:
    """Rounded to float64."""
    return torch.tensor([float(v) for v in a.flatten()], dtype=torch.float64).reshape(a.shape)


def row_distance(found: Tensor, a: Exact) -> float:
    """max_i Σ_j |found_ij − a_ij|."""
    return float(abs(exact(found) - a).sum(-1).max())
