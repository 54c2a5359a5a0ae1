"""Does indirect attention beat direct attention? Any model, size and data, one protocol, resumable.

    python benchmarks/evidence.py PLAN DATA --model FOLDER --size N --images K --runs RUNS --out FILE

DATA holds ``ecssd``, ``bsds500``, ``coco`` and ``tiny-imagenet``; FOLDER is a network that ``tr.load`` reads, such as
``python -m benchmarks.networks`` writes, or ``bundled``. All layers are measured, or those of ``--layers``; ``--only``
keeps the methods that match a pattern. K images are drawn by the seed; all of them where it is not given.

Layers and options of every family of methods are chosen on the images at even places and reported on those at odd
places. RUNS keeps the rows, so that a stopped run goes on. ``--rows`` only writes the file again from what RUNS has.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from evidence_plans import PLANS, Pairs, Plan, register_methods
from facts import facts, parser, save
from rich.progress import Progress

import tokenrank as tr
from tokenrank.evaluate.datasets import half, open_dataset
from tokenrank.evaluate.protocols import find
from tokenrank.evaluate.runner import Run, run
from tokenrank.evaluate.statistics import bootstrap, rank_biserial, wilcoxon
from tokenrank.models import Model
from tokenrank.progress import listening

KEPT = re.compile(r"iou.*|max_f|corloc|covering.*|rand.*|information.*|.*auc.*|miou.*|accuracy_strict")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("plan", choices=PLANS)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--model", default="bundled")
    arguments.add_argument("--size", type=int, help="long side in pixels; the model's own where not given")
    arguments.add_argument("--images", type=int)
    arguments.add_argument("--layers", type=_numbers, help="numbers, commas between; all where not given")
    arguments.add_argument("--only", help="pattern that methods must match")
    arguments.add_argument("--runs", type=Path, required=True)
    arguments.add_argument("--beside", help="run in RUNS on the same pictures whose methods are compared with these")
    arguments.add_argument("--rows", action="store_true")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    register_methods()
    plan = PLANS[args.plan]
    model = tr.load(args.model, size=args.size, kind="image", head=args.plan.startswith(("masking", "classes")))
    layers = args.layers or layers_of(model)
    protocol = find(plan.protocol, **plan.options)
    methods = [name for name in plan.methods(layers) if not args.only or re.search(args.only, name)]
    network = Path(args.model).resolve().name if args.model != "bundled" else "bundled"
    folder = args.runs / "-".join(filter(None, (args.plan, network, str(args.size or ""))))
    start = time.monotonic()
    if args.rows:
        done = Run(folder)
    else:
        with Progress() as bar, listening(lambda words, n, total: bar.update(task, completed=n, total=total)):
            task = bar.add_task(folder.name)
            done = run(
                protocol,
                open_dataset(plan.kind, args.data / plan.data),
                model,
                protocol.methods(",".join(methods)),
                folder,
                limit=args.images,
            )
    hidden = {args.data: "DATA", args.runs: "RUNS", args.model: network, "--rows": ""}
    about = facts(hidden=hidden) | {"network": network, "size": args.size, "layers": list(layers)}
    if not args.rows:
        about["seconds"] = round(time.monotonic() - start)
    figures, lines = summary(done, protocol, plan, layers, Run(args.runs / args.beside).rows() if args.beside else None)
    save(args.out, about | figures, lines)
    print(json.dumps({k: v for k, v in (about | figures).items() if k in ("images", "seconds", "means")}, indent=1))


def layers_of(model: Model) -> list[int]:
    """Numbers of the model's layers."""
    return list(range(len(tr.observe(PIL.Image.new("RGB", (64, 64), "grey"), model).layers)))


def summary(
    done: Run, protocol: Any, plan: Plan, layers: list[int], beside: pd.DataFrame | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the rows of a run say: figures of both halves, choices, paired comparisons."""
    rows = done.rows() if beside is None else joined(done.rows(), beside)
    even, odd = (rows[rows["key"].isin(half(sorted(set(rows["key"])), side))] for side in (0, 1))
    figures = {side: protocol.summary(part) for side, part in (("even", even), ("odd", odd), ("all", rows))}
    about: dict[str, Any] = {
        "images": int(rows["key"].nunique()),
        "failures": len(done.failures),
        "settings": {k: v for k, v in done.settings.items() if k != "methods"},
        "headline": protocol.headline,
    }
    column, larger = protocol.headline, protocol.higher_is_better
    means = figures["even"].get(column)
    if "covered" in rows.columns:  # the parts of a sum: of each picture, covering at its own best scale
        column = "covering"
        rows[column] = [max(covered) / area for covered, area in zip(rows["covered"], rows["area"], strict=True)]
        odd = rows[rows["key"].isin(set(odd["key"]))]
    if column in rows.columns and means is not None:
        best = chosen(means, larger)
        table = odd.pivot(index="key", columns="method", values=column)
        about["chosen"] = best
        about["means"] = {m: rounded(table[m].mean()) for m in best}
        about["standard_errors"] = {m: rounded(table[m].std() / len(table) ** 0.5) for m in best}
        about["pairs"] = compared(plan.pairs(layers), table, means, larger)
        if f"{column}_component" in figures["even"]:  # each method with the one part around its largest value
            parts = odd.pivot(index="key", columns="method", values=f"{column}_component")
            about["pairs_component"] = compared(
                plan.pairs(layers), parts, figures["even"][f"{column}_component"], larger
            )
        every = rows.pivot(index="key", columns="method", values=column)
        about["everywhere"] = compared(plan.everywhere(layers), every, means, larger)
    kept = [c for c in figures["odd"].columns if KEPT.fullmatch(c)]
    lines = [
        {"method": method} | {f"{c}_{side}": rounded(figures[side].loc[method, c]) for c in kept for side in figures}
        for method in figures["odd"].index
    ]
    return about, lines


def joined(rows: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """Rows of two runs on the same pictures; of a method that both have, those of the first."""
    if set(beside["key"]) != set(rows["key"]):
        raise SystemExit("the run of --beside has other pictures; give both the same --images")
    return pd.concat([rows, beside[~beside["method"].isin(set(rows["method"]))]], ignore_index=True)


def family(method: str) -> str:
    """The method without what is chosen: layer, heads and the distance of merging."""
    return ":".join(part for part in method.split(":") if not part.startswith(("layer=", "heads=", "tau=")))


def chosen(means: pd.Series, larger: bool) -> list[str]:
    """The best method of every family."""
    families: dict[str, list[str]] = {}
    for method in means.index:
        families.setdefault(family(method), []).append(method)
    return [best_of(members, means, larger) for members in families.values()]


def best_of(methods: Iterable[str], means: pd.Series, larger: bool) -> str:
    """The method of the best mean, the first of equal ones."""
    return (max if larger else min)(methods, key=lambda method: means[method])


def compared(pairs: Pairs, table: pd.DataFrame, means: pd.Series, larger: bool) -> list[dict[str, Any]]:
    """Paired differences over images: bootstrap 95 % interval, Wilcoxon p, rank-biserial effect."""
    found = []
    for names in pairs:
        first, second = (resolved(name, means, larger) for name in names)
        if first is None or second is None:
            continue
        a, b = table[first].to_numpy(), table[second].to_numpy()
        valid = np.isfinite(a) & np.isfinite(b)
        a, b = a[valid], b[valid]
        interval, p = bootstrap(a - b, seed=0), wilcoxon(a, b)[1]
        found.append(
            {
                "first": first,
                "second": second,
                "n": len(a),
                "difference": rounded((a - b).mean()),
                "low": rounded(interval.low),
                "high": rounded(interval.high),
                "p": float(f"{p:.2g}"),
                "effect": rounded(rank_biserial(a, b)),
            }
        )
    return found


def resolved(name: str, means: pd.Series, larger: bool) -> str | None:
    """A method that was measured; of a pattern the best on the images at even places; None where there is none."""
    if not name.startswith("@"):
        return name if name in means.index else None
    matching = [method for method in means.index if re.fullmatch(name[1:], method)]
    return best_of(matching, means, larger) if matching else None


def rounded(value: Any) -> Any:
    return round(float(value), 5) if np.isscalar(value) else value


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
