"""Chains over text and picture with layouts, as tests of concept maps need them, and what they are in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import tokenrank as tr

PROMPT = ("<bos>", "german", "shepherd", "and", "bus", "<pad>", "<pad>")
WORDS = ("german shepherd", "bus")
PLACES = ((1, 2), (4,))


def layout(strings: Sequence[str] = PROMPT, grid: tuple[int, int] = (3, 4)) -> tr.TokenLayout:
    """Text first, then the picture; strings in angles are special."""
    special = tuple(place for place, string in enumerate(strings) if string.startswith("<"))
    count = grid[0] * grid[1]
    return tr.TokenLayout({"text": len(strings), "image": count}, {"image": grid}, (*strings, *[""] * count), special)


def queries(
    heads: int = 3, strings: Sequence[str] = PROMPT, grid: tuple[int, int] = (3, 4), seed: int = 0, d: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys, float64 (heads, N, d)."""
    made = np.random.default_rng(seed)
    n = len(strings) + grid[0] * grid[1]
    return made.normal(size=(heads, n, d)) * 1.5, made.normal(size=(heads, n, d)) * 1.5


def attention(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """softmax(q kᵀ / √d), (heads, N, N)."""
    logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def joint(
    heads: int = 3,
    strings: Sequence[str] = PROMPT,
    grid: tuple[int, int] = (3, 4),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tr.AttentionChain:
    """Joint attention of several heads, matrix-free."""
    q, k = (torch.from_numpy(part).to(dtype) for part in queries(heads, strings, grid, seed))
    return tr.AttentionChain.from_qk(q, k, layout=layout(strings, grid))


def crossing(grid: tuple[int, int] = (3, 4), strings: Sequence[str] = PROMPT, seed: int = 0) -> tr.AttentionChain:
    """Self- and cross-attention of a block as one chain: a walk that steps over to words and stays there."""
    made = np.random.default_rng(seed)
    count = grid[0] * grid[1]
    q = torch.from_numpy(made.normal(size=(1, count, 8)))
    picture = tr.AttentionChain.from_qk(q, q + 0.5, layout=tr.TokenLayout({"image": count}, {"image": grid}))
    over = torch.from_numpy(made.random((count, len(strings)))).softmax(-1)
    joined = tr.bipartite(picture[0], over, 0.1)
    special = tuple(count + place for place, string in enumerate(strings) if string.startswith("<"))
    named = tr.TokenLayout({"image": count, "text": len(strings)}, {"image": grid}, (*[""] * count, *strings), special)
    return tr.AttentionChain.from_operator(joined.operator.reshape(1), named)
