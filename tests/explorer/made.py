"""Small explorers for tests of what shows them."""

from __future__ import annotations

import torch

import tokenrank as tr

ROWS, COLUMNS, HEADS, LAYERS = 4, 6, 2, 3


def trace(layers: int = LAYERS, samples: int = 1, seed: int = 0) -> tr.Trace:
    """Random queries and keys of pictures of 4 × 6 patches and CLS, ``samples`` of them in a batch."""
    generator = torch.Generator().manual_seed(seed)
    count = 1 + ROWS * COLUMNS

    def pair() -> tuple[torch.Tensor, torch.Tensor]:
        q, k = 2 * torch.randn(2, samples, HEADS, count, 8, generator=generator)
        return q, k

    return tr.from_query_key({f"block.{i}": pair() for i in range(layers)}, layout=tr.TokenLayout.image(ROWS, COLUMNS))


def explorer(**options: object) -> tr.Explorer:
    """Of one such picture; two layers of three can be walked in."""
    return tr.explore(trace(), **{"layers": [1, 2], **options})  # type: ignore[arg-type]
