"""What families of chains are made with, and where they are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .chains import QueryKey, Scores, Spec, Weights
from .numbers import Array

Generator = np.random.Generator
Batch = tuple[int, ...]
Family = Callable[[Generator, Batch, int], Spec]
FAMILIES: dict[str, Family] = {}
LARGEST: dict[str, int] = {}  # families of other sizes than 1 … 40

HALVES = [torch.float16, torch.bfloat16]
WIDE = [torch.float32, torch.float64]


def family(name: str, largest: int = 0) -> Callable[[Family], Family]:
    def register(make: Family) -> Family:
        FAMILIES[name] = make
        if largest:
            LARGEST[name] = largest
        return make

    return register


def pick(rng: Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def tensor(x: Array, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float64)).to(dtype)


def rows(x: Array) -> Array:
    return x / x.sum(-1, keepdims=True)


def weights(x: Array, dtype: torch.dtype = torch.float64) -> Weights:
    """Rows divided by their sums, then rounded to the dtype."""
    return Weights(tensor(rows(x), dtype))


def dirichlet(rng: Generator, batch: Batch, n: int, even: float = 1.0) -> Array:
    drawn = rng.gamma(even, size=(*batch, n, n)) + 1e-300
    return rows(drawn)


def shuffled(rng: Generator, x: Array) -> Array:
    """Tokens in another order, the same in rows and columns."""
    order = rng.permutation(x.shape[-1])
    return x[..., order[:, None], order]


def temperature(rng: Generator) -> float:
    """Largest logit, 1e-3 … 1e5."""
    return float(10 ** rng.uniform(-3, 5))


def per_head(rng: Generator, batch: Batch, draw: Callable[[Generator], float]) -> Array:
    return np.array([draw(rng) for _ in range(int(np.prod(batch, dtype=int)))]).reshape(*batch, 1, 1)


def queries(rng: Generator, batch: Batch, n: int, largest: Array, d: int) -> tuple[Array, Array]:
    """q and k whose logits at scale 1/√d are of this size, about."""
    size = np.sqrt(largest / np.sqrt(d))
    return size * rng.standard_normal((*batch, n, d)), size * rng.standard_normal((*batch, n, d))


def query_key(rng: Generator, batch: Batch, n: int, dtype: torch.dtype, **more: Any) -> QueryKey:
    d = pick(rng, [1, 4, 8, 16, 33])
    most = per_head(rng, batch, temperature)
    q, k = queries(rng, batch, n, np.minimum(most, 2e3) if dtype == torch.float16 else most, d)
    keys = tensor(k, dtype)
    if batch and batch[-1] % 2 == 0 and rng.random() < 0.3:
        keys = keys[..., ::2, :, :].contiguous()  # grouped heads
    return QueryKey(tensor(q, dtype), keys, d**-0.5, **more)


def from_logits(logits: Array, dtype: torch.dtype, **more: Any) -> QueryKey:
    """Queries that are the logits, and the unit vectors as keys."""
    keys = np.broadcast_to(np.eye(logits.shape[-1]), logits.shape)
    return QueryKey(tensor(logits, dtype), tensor(keys, dtype), 1.0, **more)


def any_way(rng: Generator, logits: Array) -> Spec:
    """The softmax of logits from queries and keys, from scores, or stored."""
    dtype, way = pick(rng, WIDE), pick(rng, ["qk", "scores", "weights"])
    if way == "qk":
        return from_logits(logits, dtype)
    if way == "scores":
        return Scores(tensor(logits, dtype))
    return Weights(tensor(logits, dtype).softmax(-1))
