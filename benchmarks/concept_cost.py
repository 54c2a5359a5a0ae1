"""What a concept map of one block of FLUX.1 costs: 4,608 tokens, 24 heads of 128 numbers, random queries and keys.

    python -m benchmarks.concept_cost

Beside it what it is compared with: the same map from weights that are built head by head (the N × N mean in memory),
and one attention call of the block as its unit of time. Seconds are medians of processor time of one thread; peaks are
of a process of its own each, above what queries and keys take.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import tokenrank as tr

from .peak import peak_gb

HEADS, WIDTH, TEXT, SIDE = 24, 128, 512, 64
STRINGS = ("a", "german", "shepherd", "and", "a", "school", "bus", *["<pad>"] * (TEXT - 7))
WORDS = ("german shepherd", "school bus")
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 3
GOAL_GB, GOAL_FORWARDS = 0.4, 3.0


def records(dtype: torch.dtype, heads: int = HEADS, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Queries and keys, (heads, 512 + side², 128)."""
    made = torch.Generator().manual_seed(0)
    q, k = (torch.randn(heads, TEXT + side * side, WIDTH, generator=made).to(dtype) for _ in "qk")
    return q, k


def layout(side: int = SIDE) -> tr.TokenLayout:
    """Text first, then the picture, as in FLUX; all but seven text tokens are padding."""
    count = side * side
    strings = (*STRINGS, *[""] * count)
    return tr.TokenLayout({"text": TEXT, "image": count}, {"image": (side, side)}, strings, tuple(range(7, TEXT)))


def ours(q: Tensor, k: Tensor, n: int, padding: str = "censor") -> Tensor:
    """n bounces back from two words, matrix-free: (2, side, side)."""
    side = round((q.shape[-2] - TEXT) ** 0.5)
    chain = tr.AttentionChain.from_qk(q, k, layout=layout(side))
    maps = tr.tasks.concept_maps(chain, WORDS, n=n, padding=padding)  # type: ignore[arg-type]
    return maps.values


def dense(q: Tensor, k: Tensor, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same from the mean of the heads' weights as one matrix, censored by solving a linear system."""
    side = round((q.shape[-2] - TEXT) ** 0.5)
    size = q.shape[-2]
    mean = torch.zeros(size, size, dtype=dtype)
    for query, key in zip(q, k, strict=True):
        mean += torch.softmax(query.to(dtype) @ key.to(dtype).mT / WIDTH**0.5, -1) / len(q)
    kept = torch.tensor([*range(7), *range(TEXT, size)])
    gone = torch.arange(7, TEXT)
    inner = torch.eye(len(gone), dtype=dtype) - mean[gone][:, gone]
    chain = mean[kept][:, kept] + mean[kept][:, gone] @ torch.linalg.solve(inner, mean[gone][:, kept])
    found = []
    for word in ((1, 2), (5, 6)):
        x, measure = torch.zeros(len(kept), dtype=dtype), torch.ones(len(kept), dtype=dtype)
        x[list(word)], measure[list(word)] = 1 / len(word), 1 / len(word)
        image = measure @ chain
        for _ in range(n):
            x = measure * (chain @ (x / image))
        found.append(x[7:] / x[7:].sum())
    return torch.stack(found).unflatten(-1, (side, side))


def forward(q: Tensor, k: Tensor) -> Tensor:
    """One attention call of the block, as the model makes it."""
    return F.scaled_dot_product_attention(q.float()[None], k.float()[None], k.float()[None])


WAYS: dict[str, Callable[..., Tensor]] = {"ours": ours, "dense": dense}


def seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median processor time."""
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        found.append(time.process_time() - begin)
    return statistics.median(found)


def peak(way: str, kind: str, n: int) -> float:
    """GB above queries and keys, in this process, which does nothing else."""
    q, k = records(TYPES[kind])
    WAYS[way](q[:1, : TEXT + 4], k[:1, : TEXT + 4], 1)  # what is imported and set up once is none of the map's
    return peak_gb(partial(WAYS[way], q, k, n))


def peak_apart(*of: object) -> float:
    """``peak`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.concept_cost", *map(str, of)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout.splitlines()[-1]), 3)


def cost() -> dict[str, Any]:
    """Peaks, seconds and differences; see ``benchmarks.diffusion``."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "tokens": TEXT + SIDE * SIDE, "heads": HEADS, "width": WIDTH, "words": list(WORDS), "threads": 1,
        "goal_gb": GOAL_GB, "goal_forwards_a_bounce": GOAL_FORWARDS,
    }  # fmt: skip
    for kind in TYPES:
        found[f"peak_gb_{kind}"] = peak_apart("ours", kind, 1)
    found["peak_gb_dense"] = peak_apart("dense", "float32", 1)
    q, k = records(torch.float32)
    unit = seconds(partial(forward, q, k))
    each = {n: seconds(partial(ours, q, k, n)) for n in (1, 2, 3)}
    found["seconds_forward"] = round(unit, 2)
    found["seconds"] = {str(n): round(time, 2) for n, time in each.items()}
    found["seconds_dense"] = round(seconds(partial(dense, q, k, 1), 1), 2)
    found["forwards_a_map"] = {str(n): round(time / unit, 2) for n, time in each.items()}
    found["forwards_a_bounce"] = {str(n): round(time / unit / n, 2) for n, time in each.items()}
    found["forwards_one_more_bounce"] = round((each[3] - each[1]) / 2 / unit, 2)
    exact = dense(q, k, 2, torch.float64)
    found["off_dense_float64"] = float((ours(q, k, 2) - exact).abs().max() / exact.max())
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        print(json.dumps(cost(), indent=1))
