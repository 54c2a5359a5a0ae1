"""Does indirect attention beat direct attention? All methods, all layers, one protocol, resumable.

    python benchmarks/evidence.py saliency DATA --out FILE --runs FOLDER
    python benchmarks/evidence.py seed DATA --out FILE --runs FOLDER
    python benchmarks/evidence.py regions DATA --out FILE --runs FOLDER
    python benchmarks/evidence.py masking-keys DATA --out FILE --runs FOLDER       (or -remove, -pixels)

DATA holds ``ecssd``, ``bsds500`` and ``tiny-imagenet``. Layers and options of every family of methods are chosen on the
images at even places and reported on those at odd places. FOLDER keeps the rows, so that a stopped run goes on.
``--rows`` only writes the file again from what FOLDER has.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from facts import facts, parser, save
from rich.progress import Progress

import tokenrank as tr
from tokenrank.evaluate.datasets import half, open_dataset
from tokenrank.evaluate.protocols import find
from tokenrank.evaluate.runner import Run, run

LAYERS = range(6)
HEADS = ("uniform", "lambda2")
BOUNCES = (1, 2, 3, 4, 8)
SEEDLESS = ("column_sum", "tokenrank", "tokenrank:direction=backward")
RATIOS = tuple(k / 10 for k in range(10))


def saliency_methods() -> list[str]:
    each = [
        f"{name}:layer={layer}{options}"
        for layer in LAYERS
        for name, options in (
            ("tokenrank", ":heads=uniform"),
            ("tokenrank", ":heads=lambda2"),
            ("tokenrank", ":direction=backward:heads=uniform"),
            ("tokenrank", ":direction=backward:heads=lambda2"),
            ("column_sum", ":heads=uniform"),
            ("cls_row", ""),
            ("saliency", ":how=border"),
            ("saliency", ":how=slow"),
            ("saliency", ":how=slow:side=seed"),
            ("tokencut", ""),
            ("lost", ""),
            ("deep_spectral", ""),
        )
    ]
    whole = [
        f"saliency:how={how}:heads={heads}"
        for how in ("border", "slow", "metastable", "tokenrank", "tokenrank-backward")
        for heads in HEADS
    ]
    whole += ["saliency:how=slow:side=seed:heads=uniform", "saliency:how=slow:side=seed:heads=lambda2"]
    others = ["rollout", "rollout:start_layer=1", "dino_mass", "attention_flow", "grad_cam", "pytorch_grad_cam"]
    others += ["generic_relevance", "transformer_attribution", "partial_lrp", "random", "centre_prior", "lattice"]
    return each + whole + others


def seed_methods() -> list[str]:
    return [
        *(f"bounce:n={n}:layer={layer}:heads={h}" for layer in LAYERS for h in HEADS for n in (*BOUNCES, "halflife")),
        *(f"cls_bounce:n={n}:layer={layer}:heads={h}" for layer in LAYERS for h in HEADS for n in (1, 2, 3)),
        *(f"{name}:layer={layer}:heads={h}" for layer in LAYERS for h in HEADS for name in SEEDLESS),
    ]


def region_methods() -> list[str]:
    names = []
    for layer in (1, 3):
        merge = f"merge:layer={layer}:heads=uniform"
        names += [merge, f"{merge}:grid=tokenrank", f"{merge}:n=2"]
        names += [f"metastable:layer={layer}:heads=uniform", f"kmeans:layer={layer}"]
    return [*names, "blocks"]


def masking_methods() -> list[str]:
    names = []
    for layer in LAYERS:
        names += [f"{name}:layer={layer}:heads=uniform" for name in ("tokenrank", "column_sum", "cls_row")]
    return [*names, "rollout", "saliency", "grad_cam", "generic_relevance", "transformer_attribution", "random"]


PLANS: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "saliency": ("ecssd", "saliency", {"size": 128}, saliency_methods),
    "seed": ("ecssd", "seed", {"size": 128, "posts": ()}, seed_methods),
    "regions": ("bsds500", "regions", {"size": 128}, region_methods),
    "masking-keys": ("tiny-imagenet", "masking", {"how": ("keys",), "ratios": RATIOS}, masking_methods),
    "masking-remove": ("tiny-imagenet", "masking", {"how": ("remove",), "ratios": RATIOS}, masking_methods),
    "masking-pixels": ("tiny-imagenet", "masking", {"how": ("pixels",), "ratios": RATIOS}, masking_methods),
}


def family(method: str) -> str:
    """The method without the layer and the heads that are chosen; saliency and bounce by their own options."""
    kept = [part for part in method.split(":") if not part.startswith(("layer=", "heads="))]
    return ":".join(kept)


def chosen(scores: pd.DataFrame, column: str, larger: bool) -> dict[str, str]:
    """Family → its best method on these rows (even places)."""
    means = scores.groupby("method", sort=False)[column].mean()
    best: dict[str, str] = {}
    for method, value in means.items():
        rival = best.get(family(str(method)))
        if rival is None or (value > means[rival] if larger else value < means[rival]):
            best[family(str(method))] = str(method)
    return best


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("plan", choices=PLANS)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--runs", type=Path, required=True)
    arguments.add_argument("--limit", type=int)
    arguments.add_argument("--rows", action="store_true")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    name, protocol_name, options, methods = PLANS[args.plan]
    protocol = find(protocol_name, **options)
    kind = "parquet" if name == "tiny-imagenet" else name
    dataset = open_dataset(kind, args.data / name)
    folder = args.runs / args.plan
    start = time.monotonic()
    if args.rows:
        done = Run(folder)
    else:
        model = tr.load("bundled", size=64 if name == "tiny-imagenet" else None)
        with Progress() as bar:
            task = bar.add_task(args.plan)
            done = run(
                protocol,
                dataset,
                model,
                protocol.methods(",".join(methods())),
                folder,
                limit=args.limit,
                progress=lambda n, total, failed: bar.update(task, completed=n, total=total),
            )
    rows = done.rows()
    even, odd = (rows[rows["key"].isin(half(sorted(set(rows["key"])), side))] for side in (0, 1))
    figures = {side: protocol.summary(part) for side, part in (("even", even), ("odd", odd))}
    about = facts(hidden={args.data: "DATA", args.runs: "RUNS", "--rows": ""}) | {
        "images": int(rows["key"].nunique()),
        "failures": len(done.failures),
        "settings": {k: v for k, v in done.settings.items() if k != "methods"},
        "seconds": round(time.monotonic() - start),
        "headline": protocol.headline,
    }
    if protocol.headline in rows.columns:
        best = chosen(even, protocol.headline, protocol.higher_is_better)
        table = odd.pivot(index="key", columns="method", values=protocol.headline)
        about["chosen"] = list(best.values())
        about["means"] = {m: rounded(table[m].mean()) for m in best.values()}
        about["standard_errors"] = {m: rounded(table[m].std() / len(table) ** 0.5) for m in best.values()}
    lines = [
        {"method": method}
        | {f"{c}_{side}": rounded(figures[side].loc[method, c]) for side in figures for c in figures[side].columns}
        for method in figures["odd"].index
    ]
    save(args.out, about, lines)
    print(json.dumps({k: v for k, v in about.items() if k in ("images", "seconds", "means")}, indent=1))


def rounded(value: Any) -> Any:
    return round(float(value), 5) if np.isscalar(value) else value


if __name__ == "__main__":
    main()
