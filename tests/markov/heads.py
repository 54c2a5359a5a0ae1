"""Nine synthetic attention heads, from well to badly behaved; 256 tokens, float64, seed 0."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from tokenrank.operators import QueryKey

N, D = 256, 32


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@functools.cache
def nine_heads() -> dict[str, np.ndarray]:
    """Name → A (256, 256). The order matters: all draw from one generator."""
    rng = np.random.default_rng(0)
    i = np.arange(N)
    noise = functools.partial(rng.standard_normal, (N, N))

    def gaussian(temperature: float) -> np.ndarray:
        q, k = rng.standard_normal((2, N, D))
        return softmax(temperature * q @ k.T / np.sqrt(D))

    def near_in_a_line(width: float) -> np.ndarray:
        return softmax(-((i[:, None] - i) ** 2) / (2 * width**2) + 0.3 * noise())

    def near_in_a_plane() -> np.ndarray:
        row, column = np.divmod(i, 16)
        distance = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
        return softmax(-distance / 6 + 0.5 * noise())

    def previous_token(p: float) -> np.ndarray:
        shift = np.zeros((N, N))
        shift[i, (i - 1) % N] = p
        return shift + (1 - p) * softmax(noise())

    def clusters(count: int, leak: float) -> np.ndarray:
        label = rng.integers(0, count, N)
        return softmax(np.where(label[:, None] == label, 0, np.log(leak)) + 0.5 * noise())

    def sink(p: float) -> np.ndarray:
        a = (1 - p) * softmax(noise())
        a[:, 0] += p
        return a

    def itself(p: float) -> np.ndarray:
        return p * np.eye(N) + (1 - p) * softmax(noise())

    return {
        "random": gaussian(1),
        "peaky random": gaussian(4),
        "1-D local": near_in_a_line(3),
        "2-D local": near_in_a_plane(),
        "cyclic": previous_token(0.95),
        "3 clusters": clusters(3, 0.01),
        "8 clusters": clusters(8, 1e-3),
        "sink": sink(0.6),
        "diagonal": itself(0.9),
    }


NAMES = list(nine_heads())


def stacked(dtype: torch.dtype = torch.float64) -> Tensor:
    """All of them, (9, 256, 256)."""
    return torch.from_numpy(np.stack(list(nine_heads().values()))).to(dtype)


def as_query_key(weights: Tensor) -> QueryKey:
    """The matrix-free operator of the same chains: queries log A, keys the unit vectors."""
    n = weights.shape[-1]
    lowest = np.log(torch.finfo(weights.dtype).tiny)
    keys = torch.eye(n, dtype=weights.dtype).expand(weights.shape)
    return QueryKey(weights.log().clamp(min=lowest), keys, 1.0, None, False)
