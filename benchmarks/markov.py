"""The Markov core beside its peers: stationary vectors, spectra, PCCA+, absorption, times, Kemeny's constant, classes.

    python benchmarks/markov.py [--sizes 256,1024] [--rounds 3] [--tasks a,b] [--threads 1] [--out FILE]

72 heads (six seeds of twelve ``synthetic_heads``; twelve heads beyond 1,024 tokens). All variants of a task run in
turn within each round; a figure is the median over rounds, a ratio is one of medians. A peer takes one head at a time;
where its loop would take more than ``LIMIT`` seconds it runs on the first few heads and its time is scaled to all
(the row says so). The error and what it is measured against are described with every task in ``markov_tasks.py``.
Peak memory is what a fresh process needs on top of its inputs. ``cpu_seconds`` is the processor time of the same
runs: on a machine with other work, and with one thread, it is the figure to trust.

QuantEcon, deeptime, PyDTMC and pyGPCCA are measured where they are installed. They are imported before anything is
timed: QuantEcon sets the number of OpenMP threads when it is imported, and PyTorch's with it.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
import warnings
from typing import Any

import torch
from facts import facts, in_new_process, parser, save
from markov_tasks import ALPHA, PEERS, TASKS, Inputs, Variant, peer
from peak import peak_gb
from threadpoolctl import threadpool_limits

LIMIT = 5.0  # seconds that a peer's loop may take before heads are left out


def use_threads(count: int) -> None:
    """The same number for PyTorch, for the BLAS of NumPy and SciPy, and for OpenMP."""
    for name in PEERS:
        peer(name)
    threadpool_limits(count)
    torch.set_num_threads(count)


def heads_for(variant: Variant, data: Inputs) -> int:
    """As many heads as a peer manages in ``LIMIT`` seconds; all for ours."""
    variant.run(1)  # compilation, and copies of the inputs
    if variant.ours:
        return data.heads
    start = time.perf_counter()
    variant.run(1)
    return max(1, min(data.heads, int(LIMIT / max(time.perf_counter() - start, 1e-6))))


def memory(task: str, variant: str, n: int, heads: int) -> float:
    """Peak of a fresh process over what its inputs took, GB."""
    return float(in_new_process(__file__, "--memory-of", task, variant, n, heads))


def measure(task: str, n: int, rounds: int) -> list[dict[str, Any]]:
    data = Inputs(n)
    variants = [v for v in TASKS[task](data) if n <= v.largest]
    if not variants:
        return []
    heads = {v.name: heads_for(v, data) for v in variants}
    wall: dict[str, list[float]] = {v.name: [] for v in variants}
    cpu: dict[str, list[float]] = {v.name: [] for v in variants}
    answers: dict[str, Any] = {}
    for _ in range(rounds):
        for v in variants:
            scale = data.heads / heads[v.name]
            start, busy = time.perf_counter(), time.process_time()
            answers[v.name] = v.run(heads[v.name])
            cpu[v.name].append((time.process_time() - busy) * scale)
            wall[v.name].append((time.perf_counter() - start) * scale)
    first = variants[0].name
    rows = []
    for v in variants:
        answer, count = answers[v.name], heads[v.name]
        error = v.error(answer, count)
        seconds, busy = statistics.median(wall[v.name]), statistics.median(cpu[v.name])
        row = {
            "task": task,
            "tokens": n,
            "variant": v.name,
            "seconds": round(seconds, 4),
            "ratio": round(seconds / statistics.median(wall[first]), 2),
            "cpu_seconds": round(busy, 4),
            "cpu_ratio": round(busy / statistics.median(cpu[first]), 2),
            "error": None if math.isnan(error) else error,
            "applies": v.applies(answer),
            "heads": data.heads,
            "heads_run": count,
            "heads_failed": sum(x is None for x in answer) if isinstance(answer, list) else 0,
            "scaled": count < data.heads,
            "peak_gb": max(0.0, round(memory(task, v.name, n, count), 3)),
            "quality": {name: None if math.isnan(x) else x for name, x in v.quality(answer).items()},
        }
        rows.append(row)
        print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    notes = [f"{row['heads_run']} of {row['heads']} heads, scaled"] if row["scaled"] else []
    notes += [f"{row['heads_failed']} failed"] if row["heads_failed"] else []
    notes += [f"{name} {value:.3g}" for name, value in row["quality"].items() if value is not None]
    variant = row["variant"] + (f" ({'; '.join(notes)})" if notes else "")
    error = "–" if row["error"] is None else f"{row['error']:.0e}"
    return (
        f"| {row['task']} | {row['tokens']:,} | {variant} | {row['seconds']:.2f} s | {row['ratio']:.1f} "
        f"| {row['cpu_ratio']:.1f} | {error} | {row['applies'] or '–'} | {row['peak_gb']:.2f} GB |"
    )


def main() -> None:
    arguments = parser(__doc__, sizes="256,1024", rounds=3, threads=1)
    arguments.add_argument("--tasks", default=",".join(TASKS))
    hidden = ("TASK", "VARIANT", "TOKENS", "HEADS")
    arguments.add_argument("--memory-of", nargs=4, metavar=hidden, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # pyGPCCA logs whole matrices
    if args.memory_of:
        task, name, n, heads = args.memory_of
        variant = next(v for v in TASKS[task](Inputs(int(n))) if v.name == name)
        variant.run(1)
        print(peak_gb(lambda: variant.run(int(heads))))
        return
    use_threads(args.threads)
    print(f"α = {ALPHA}, {args.threads} thread{'s' * (args.threads > 1)}, float32 inputs\n")
    print("| task | tokens | variant | median | times ours | CPU time | error | applies | peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for n in map(int, args.sizes.split(",")):
        for task in args.tasks.split(","):
            rows += measure(task, n, args.rounds)
            # after every task: what is measured is kept
            save(args.out, facts("networkx", *filter(peer, PEERS)), rows)


if __name__ == "__main__":
    main()
