"""Evaluation: seconds a picture of each method, what a resume costs, whether memory stays flat.

    python benchmarks/evaluate.py DATA [--model NAME] [--size 128] [--images 12] [--long 500]
        [--long-size 96] [--out FILE]

DATA is ECSSD's folder (``images``, ``masks``), NAME what ``tr.load`` takes. Methods that need a classifier are left out
where the model has none. Each method gets an observation of its own, whose forward is not counted but whose chains
are, and the second forward of those that ask for values or block outputs; times are medians over pictures, methods in
a rotating order within each picture. The ratio is to TokenCut as published (last keys) and to rollout on the same
network; "forward" is the capture itself. Then, unless ``--long`` is 0, a run of three cheap methods over all pictures:
peak memory after each tenth of it, and how long the finished run takes to say that there is nothing left to do.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from facts import facts, parser, save

import tokenrank as tr
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.methods import Query, parse_methods
from tokenrank.evaluate.protocols import find
from tokenrank.evaluate.runner import run
from tokenrank.progress import listening

METHODS = (
    "tokenrank,tokenrank:heads=uniform,bounce:n=1:heads=uniform,bounce:n=2,bounce:n=2:heads=uniform,"
    "bounce:n=halflife:heads=uniform,saliency,saliency:how=slow,saliency:how=metastable,column_sum:heads=uniform,"
    "cls_row,rollout,attention_flow,grad_cam,generic_relevance,transformer_attribution,"
    "tokencut:layer=-1:what=k,tokencut,lost,deep_spectral,random"
)
CHEAP = "tokenrank,rollout,tokencut"


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--images", type=int, default=12)
    arguments.add_argument("--long", type=int, default=500)
    arguments.add_argument("--size", type=int, default=128)
    arguments.add_argument("--long-size", type=int, default=96)
    arguments.add_argument("--model", default="bundled")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    model, dataset = tr.load(args.model), open_dataset("ecssd", args.data)
    methods = [method for method in parse_methods(METHODS) if model.head or method.asks != "class"]
    forward: list[float] = []
    times: dict[str, list[float]] = {method.name: [] for method in methods}
    for turn, key in enumerate(dataset.keys[: args.images + 1]):
        picture = dataset.read(key).image
        for place in range(len(methods)):
            method = methods[(place + turn) % len(methods)]
            seen = tr.observe(picture, model, size=args.size)
            start = time.perf_counter()
            _ = seen.grid  # the forward, and which layers see the picture
            forward.append(time.perf_counter() - start)
            start = time.perf_counter()
            method.run(seen, Query(seed=tr.at(0.5, 0.5)))
            if turn:  # the first picture warms up
                times[method.name].append(time.perf_counter() - start)
    medians = {"forward": median(forward[len(methods) :])} | {name: median(values) for name, values in times.items()}
    base = {"rollout": medians["rollout"], "tokencut": medians["tokencut:layer=-1:what=k"]}
    rows = [
        {
            "method": name,
            "ms": round(1000 * t, 2),
            "images_per_second": round(1 / t, 1),
            "times_tokencut": round(t / base["tokencut"], 2),
            "times_rollout": round(t / base["rollout"], 2),
        }
        for name, t in medians.items()
    ]
    for row in rows:
        print(f"{row['method']:28} {row['ms']:9.2f} ms  {row['times_tokencut']:8.2f} × TokenCut", flush=True)
    about = facts(hidden={args.data: "DATA", args.model: Path(args.model).name}) | {
        "model": Path(args.model).name,
        "size": args.size,
    }
    if args.long:
        about |= long_run(args, dataset, model)
    save(args.out, about, rows)


def long_run(args: argparse.Namespace, dataset: Any, model: tr.Model) -> dict[str, Any]:
    """Peak memory along a run of cheap methods, and what a resume of the finished one takes."""
    protocol: Any = find("saliency", size=args.long_size, posts=())
    peaks: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory() as folder:

        def watch(words: str, done: int, total: int | None) -> None:
            if total and done * 10 // total > len(peaks) - 1:
                peaks.append({"images": done, "peak_mib": round(peak_mib())})

        start = time.perf_counter()
        with listening(watch):
            run(protocol, dataset, model, parse_methods(CHEAP), folder, limit=args.long)
        whole = time.perf_counter() - start
        start = time.perf_counter()
        run(protocol, dataset, model, parse_methods(CHEAP), folder, limit=args.long)
        again = time.perf_counter() - start
    long = {
        "methods": CHEAP,
        "images": args.long,
        "seconds": round(whole, 1),
        "resume_of_finished": round(again, 2),
    }
    print(long, peaks)
    return {"long_size": args.long_size, "run": long, "memory": peaks}


if __name__ == "__main__":
    main()
