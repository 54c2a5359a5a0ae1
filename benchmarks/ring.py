"""A sequence over processes: seconds of a product on a ring of gloo, beside its work and its messages alone.

    python -m benchmarks.ring [--sizes 2048,8192] [--ranks 1,2] [--rounds 5] [--out FILE]

Every rank has one thread, and all of them are on this machine: shards go through the loopback. Of each product A x and
Aᵀ x of one column: seconds as it is; "work", the same blocks of logits with shards that are there already; "messages",
shards passed around and rows gathered without any work; "waited", the seconds of the product in which the first rank
waited for a shard, because it was still under way or because another rank had more to do. "one device" is ``QueryKey``
in this process with one thread. All variants run in turn within each round; figures are medians over rounds, of the
slowest rank where not said otherwise. The bytes of a hop are counted, not measured.

Causal chains are measured with tokens in the order of the ranks and in zigzag, which evens out the work.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.facts import facts, parser, save
from tokenrank.operators import from_query_key
from tokenrank.operators.distributed import Ring, RingQueryKey, contiguous, zigzag
from tokenrank.operators.distributed import from_query_key as spread

HEADS, WIDTH = 4, 64
Seconds = dict[str, float]


class Alone(Ring):
    """A ring whose shards are there already: its products are the work alone, and no answers."""

    def passed(self, mine: Tensor, sizes: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        for hop in range(self.size):
            owner = (self.rank - hop) % self.size
            yield owner, mine.new_zeros(*mine.shape[:-2], sizes[owner], mine.shape[-1]) if hop else mine

    def gathered(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        return [mine.new_zeros(*mine.shape[:-2], size, mine.shape[-1]) for size in sizes]

    def _agree(self, what: str, x: Tensor | None) -> None:
        pass


class Timed(Ring):
    """A ring that knows how long it waited for shards."""

    waited = 0.0

    def _wait(self, work: Any, what: str) -> None:
        begun = time.perf_counter()
        super()._wait(work, what)
        if what.startswith("passing"):
            self.waited += time.perf_counter() - begun


def heads(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, HEADS, n, WIDTH, generator=generator)
    return q, k


def seconds_of(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def messages(chain: RingQueryKey) -> None:
    """What a product sends and receives, and nothing else."""
    ring, sizes = chain.ring, chain.partition.sizes
    for _ in ring.passed(chain.k, sizes):
        pass
    ring.gathered(chain.k.new_zeros(HEADS, sizes[ring.rank], 1), sizes)


def on_a_rank(rank: int, size: int, store: str, n: int, kind: str, rounds: int, answers: Any) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=120)
    )
    ring, alone = Timed(timeout=120), Alone(timeout=120)
    q, k = heads(n)
    even = torch.arange(n).tensor_split(size)
    mine = zigzag(n, size)[rank] if kind == "zigzag" else even[rank]
    causal = kind != "full"
    chain = spread(q[:, mine], k[:, mine], ring, is_causal=causal, tokens=mine)
    idle = RingQueryKey(alone, chain.partition, chain.q, chain.k, chain.scale, causal)
    x = torch.rand(HEADS, n, 1, generator=torch.Generator().manual_seed(1))
    idle._normalisers[torch.float32] = chain.log_normalisers(torch.float32)
    runs: dict[str, Callable[[], object]] = {
        "A x": lambda: chain.matmul(x),
        "A x, work": lambda: idle.matmul(x),
        "Aᵀ x": lambda: chain.rmatmul(x),
        "Aᵀ x, work": lambda: idle.rmatmul(x),
        "messages": lambda: messages(chain),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            dist.barrier()
            ring.waited = 0.0
            seconds = seconds_of(run)
            waited = ring.waited
            slowest = torch.tensor([seconds])
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if turn:  # the first one warms up
                found[name].append(float(slowest))
                found.setdefault(f"{name}, waited", []).append(waited)
    if rank == 0:
        answers.put({name: statistics.median(several) for name, several in found.items()})
    dist.destroy_process_group()


def measured(n: int, size: int, kind: str, rounds: int) -> Seconds:
    context = mp.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        given = (size, f"{folder}/store", n, kind, rounds, answers)
        processes = mp.spawn(on_a_rank, given, nprocs=size, join=False)
        found: Seconds = answers.get(timeout=600)
        while not processes.join():
            pass
    return found


def one_device(n: int, causal: bool, rounds: int) -> Seconds:
    q, k = heads(n)
    chain = from_query_key(q, k, None, None, causal)
    x = torch.rand(HEADS, n, 1, generator=torch.Generator().manual_seed(1))
    runs: dict[str, Callable[[], object]] = {"A x": lambda: chain.matmul(x), "Aᵀ x": lambda: chain.rmatmul(x)}
    for run in runs.values():
        run()
    return {name: statistics.median(seconds_of(run) for _ in range(rounds)) for name, run in runs.items()}


def rows_of(n: int, size: int, kind: str, found: Seconds, alone: Seconds) -> list[dict[str, Any]]:
    rows = []
    hop = HEADS * max(len(part) for part in contiguous([n // size] * size).tokens) * WIDTH * 4 if size > 1 else 0
    for product in ("A x", "Aᵀ x"):
        whole, work, sent = found[product], found[f"{product}, work"], found["messages"]
        row = {"tokens": n, "ranks": size, "chain": kind, "product": product, "seconds": whole, "work": work}
        row |= {"messages": sent, "waited": found[f"{product}, waited"], "hop_bytes": hop}
        rows.append(row | {"one_device": alone[product], "times_one_device": whole / alone[product]})
    return rows


def main() -> None:
    arguments = parser(__doc__, sizes="2048,8192", rounds=5)
    arguments.add_argument("--ranks", default="1,2", help="numbers of processes, commas between")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"{HEADS} heads, d = {WIDTH}, float32, one thread a rank\n")
    print("| tokens | ranks | chain | product | seconds | work | messages | waited | a hop | one device |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for n in map(int, args.sizes.split(",")):
        alone = {causal: one_device(n, causal, args.rounds) for causal in (False, True)}
        for size in map(int, args.ranks.split(",")):
            for kind in ("full", "in order", "zigzag") if size > 1 else ("full", "in order"):
                found = rows_of(n, size, kind, measured(n, size, kind, args.rounds), alone[kind != "full"])
                rows += found
                for row in found:
                    print(
                        f"| {n:,} | {size} | {kind} | {row['product']} | {row['seconds']:.3f} | {row['work']:.3f} "
                        f"| {row['messages']:.4f} | {row['waited']:.4f} | {row['hop_bytes'] / 2**20:.1f} MB "
                        f"| {row['one_device']:.3f} |",
                        flush=True,
                    )
    about = facts() | {"heads": HEADS, "width": WIDTH, "threads_a_rank": 1, "backend": "gloo on the loopback"}
    save(args.out, about | {"rounds": args.rounds}, rows)


if __name__ == "__main__":
    main()
