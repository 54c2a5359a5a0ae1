"""What DiffSeg costs a picture: from queries and keys of a UNet's layers to labels, beside a plain port.

    python -m benchmarks.diffusion diffseg

The layers are those of Stable Diffusion at 512 × 512: five of 64² tokens, five of 32², five of 16² and one of 8², with
8 heads. Queries and keys vary smoothly over the picture. Each side runs in a process of its own and begins from the
same queries and keys; memory is how far it rises above them. The port (``tests/tasks/plain_diffseg.py``) builds the
weights of one layer at a time and adds them up, and takes logarithms once, which is less than the publication does.
"aggregated" are layers joined alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.facts import facts, in_new_process
from benchmarks.peak import peak_gb
from tests.tasks import plain_diffseg
from tokenrank.chain import AttentionChain
from tokenrank.layout import TokenLayout
from tokenrank.operators import Dense
from tokenrank.tasks.anchors import anchors_of
from tokenrank.tasks.cluster import from_proposals, merged_maps
from tokenrank.tasks.resolutions import aggregate_resolutions

HEADS, SIZE, TAU = 8, (512, 512), 1.1
LAYERS = ((64, 5, 40), (32, 5, 80), (16, 5, 160), (8, 1, 160))  # side, how many, width of a head
ROUNDS = 3

QueryKey = tuple[Tensor, Tensor, tuple[int, int]]


def queries_and_keys() -> list[QueryKey]:
    """(q, k, grid) of every layer: a smooth field that both share, and noise."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for side, count, width in LAYERS:
        for _ in range(count):
            field = torch.randn(1, HEADS * width, 8, 8, generator=generator)
            field = F.interpolate(field, (side, side), mode="bicubic").reshape(HEADS, width, side * side).mT
            q, k = (field + 0.3 * torch.randn(HEADS, side * side, width, generator=generator) for _ in range(2))
            made.append((q.contiguous(), k.contiguous(), (side, side)))
    return made


def aggregated(layers: list[QueryKey]) -> Tensor:
    """The layers as one matrix."""
    return aggregate_resolutions((AttentionChain.from_qk(q, k), grid) for q, k, grid in layers)


def streamed(layers: list[QueryKey]) -> Tensor:
    """Our labels."""
    matrix = aggregated(layers)
    grid = max((grid for *_, grid in layers), key=lambda g: g[0] * g[1])
    chain = AttentionChain.from_operator(Dense(matrix), TokenLayout.image(*grid, cls_tokens=0))
    proposals = merged_maps(chain, anchors_of(chain, grid), tau=TAU)
    return torch.from_numpy(from_proposals(proposals, grid, SIZE).labels)


def plain(layers: list[QueryKey]) -> Tensor:
    """The port's labels."""

    def weights() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for q, k, grid in layers:
            yield (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), grid

    return plain_diffseg.segmented(weights(), SIZE, TAU)


WAYS = {"streamed": streamed, "plain": plain, "aggregated": aggregated}


def cost() -> dict[str, Any]:
    """Seconds (median) and GB of memory of both, how they relate, and how many pixels have another label."""
    rounds = {"streamed": ROUNDS, "plain": 1, "aggregated": ROUNDS}
    found = {way: in_new_process(__file__, way, rounds[way]) for way in WAYS}
    both = [torch.tensor(found[way].pop("labels")) for way in ("streamed", "plain")]
    return {
        **facts(),
        "layers": [f"{count} of {side} × {side} tokens, {HEADS} heads of {width}" for side, count, width in LAYERS],
        **found,
        "faster": found["plain"]["seconds"] / found["streamed"]["seconds"],
        "less_memory": found["plain"]["gb"] / found["streamed"]["gb"],
        "segments": int(both[0].max()),
        "other_label": float((both[0] != both[1]).double().mean()),
    }


def measured(way: str, rounds: int) -> dict[str, Any]:
    """Seconds (median) and GB (largest) of one way, and its labels at every fourth pixel."""
    torch.set_num_threads(1)
    layers = queries_and_keys()
    kept: dict[str, Tensor] = {}

    def once() -> None:
        kept["labels"] = WAYS[way](layers)

    seconds, gb = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        gb.append(peak_gb(once))
        seconds.append(time.perf_counter() - start)
    found = {"seconds": statistics.median(seconds), "gb": max(gb), "rounds": rounds}
    return found if way == "aggregated" else found | {"labels": kept["labels"][::4, ::4].tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("rounds", type=int)
    given = parser.parse_args()
    print(json.dumps(measured(given.way, given.rounds)))
