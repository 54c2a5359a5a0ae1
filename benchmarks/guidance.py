"""Guidance on the small FLUX: pictures of all arms on identical seeds and prompts, and how near they are to real ones.

    python -m benchmarks.guidance MODEL DATA WORK --dino NETWORKS/dinov2-small --seeds 1000 \\
        --out benchmarks/results/guidance.json

MODEL is the folder of the pipeline, DATA that of Tiny-ImageNet's shards, WORK a folder for pictures and features: a run
that stops goes on from what is there. Arms: none; blur under the mask of the column sum, of TokenRank, of two bounces;
blur everywhere; blur under a random mask as large as TokenRank's, picture by picture and step by step. The last is the
control: what TokenRank gains over it is gained by knowing where, the rest by blurring so much.

Seeds at 1,000,000 and beyond, which no result uses, are there to choose settings on: ``--first 1000000``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from training.text_to_image.pictures import load_classes, single
from training.text_to_image.train import CLASSES
from training.text_to_image.words import class_names

from .facts import facts, parser, save
from .guided.measured import Real, comparisons, keep_real, measured, row_of
from .guided.sampling import ARMS, Part, Plan, in_processes, load_pictures, parts, sample_all


def prompts(data: Path) -> tuple[str, ...]:
    """ "a german shepherd": one a class."""
    names = class_names(data / "classes.txt")
    return tuple(f"a {names[number][0]}" for number in CLASSES)


def real_pictures(data: Path) -> Real:
    """Those that the network was trained on, and those that it was not, at 32 × 32."""
    return Real(*(_bytes(load_classes(data, stem, CLASSES)[0]) for stem in ("train", "val")))


def _bytes(pictures: torch.Tensor) -> Any:
    return single(pictures).add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def measure_strength(
    arms: tuple[str, ...], wanted: list[Part], folder: Path, real: Real, store: Path, args: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one strength of classifier-free guidance, and its comparisons."""
    own = {arm: [part for part in wanted if part.arm == arm] for arm in arms}
    loaded = {arm: load_pictures(folder, some) for arm, some in own.items()}
    seeds = [seed for part in own[arms[0]] for seed in range(part.begin, part.begin + part.count)]
    labels = [CLASSES[seed % len(CLASSES)] for seed in seeds]
    jobs = [(loaded[arm][0], labels, real, args.dino, store, args.resamples) for arm in arms]
    found = dict(zip(arms, in_processes(measured, jobs, args.processes), strict=True))
    rows = []
    for arm in arms:
        shares = loaded[arm][1]
        share = {"share": float(shares.mean()), "shares": shares.mean(1).tolist()} if shares.size else {}
        rows.append({"arm": arm, "cfg": wanted[0].cfg, "pictures": len(seeds), **share, **row_of(found[arm])})
        print(json.dumps({name: value for name, value in rows[-1].items() if name != "shares"}), flush=True)
    return rows, [{"cfg": wanted[0].cfg, **row} for row in comparisons(found)]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("model", type=Path)
    made.add_argument("data", type=Path)
    made.add_argument("work", type=Path)
    made.add_argument("--dino", type=Path, required=True, help="folder of DINOv2-small")
    made.add_argument("--seeds", type=int, default=1000)
    made.add_argument("--first", type=int, default=0)
    made.add_argument("--cfg", default="3,1", help="strengths of classifier-free guidance, commas between; 1: none")
    made.add_argument("--arms", default=",".join(ARMS))
    made.add_argument("--steps", type=int, default=12)
    made.add_argument("--scale", type=float, default=0.75)
    made.add_argument("--sigma", type=float, default=1.0)
    made.add_argument("--kernel", type=int, default=9)
    made.add_argument("--layers", help="whose attention makes the masks, commas between")
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--resamples", type=int, default=200)
    args = made.parse_args()
    torch.set_num_threads(1)
    layers = tuple(args.layers.split(",")) if args.layers else None
    plan = Plan(args.model, prompts(args.data), args.steps, args.scale, args.sigma, args.kernel, layers)
    arms, strengths = tuple(args.arms.split(",")), [float(value) for value in args.cfg.split(",")]
    begin, folder, store = time.perf_counter(), args.work / plan.digest, args.work / "features"
    real = real_pictures(args.data)
    nothing = [0] * len(real.val)
    keep_features = [(real, args.dino, store, place) for place in range(2)]
    in_processes(keep_real, keep_features, args.processes)
    best = row_of(measured(real.val, nothing, real, args.dino, store, 50))
    hidden = {args.model: "MODEL", args.data: "DATA", args.work: "WORK", args.dino: "DINO"}
    rows: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    sampling = 0.0
    for cfg in strengths:  # each is stored before the next begins
        wanted = parts(arms, [cfg], args.first, args.seeds)
        sampling += sample_all(plan, wanted, folder, args.processes)
        more = measure_strength(arms, wanted, folder, real, store, args)
        rows, compared = rows + more[0], compared + more[1]
        about = facts("diffusers", hidden=hidden) | {
            "seeds": args.seeds, "first": args.first, "steps": args.steps, "scale": args.scale, "sigma": args.sigma,
            "kernel": args.kernel, "layers": layers, "training": training(args.model),
            "real": {"train": len(real.train), "val": len(real.val)},
            "seconds": {"sampling": round(sampling), "all": round(time.perf_counter() - begin)},
            "unseen": {name: value for name, value in best.items() if not name.endswith("_unseen")},
            "comparisons": compared,
        }  # fmt: skip
        save(args.out, about, rows)


def training(model: Path) -> dict[str, Any]:
    """How long the network was trained."""
    file = model / "training.json"
    if not file.is_file():
        return {}
    told = json.loads(file.read_text(encoding="utf-8"))
    return {name: told[name] for name in ("steps", "minutes") if name in told}


if __name__ == "__main__":
    main()
