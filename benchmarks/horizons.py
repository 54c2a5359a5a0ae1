"""How many bounces: rules that read it off the chain (``bounce_rules.py``) against the best fixed number, on ECSSD.

    python benchmarks/horizons.py DATA [--images 500] [--size 128] [--cache DIR] [--out FILE] [--figure FILE]

Protocol of evidence.py seed: patches only, heads mixed evenly or by |λ2|, bounces from a patch on the object, the map
enlarged and thresholded at its mean, intersection over union with the mask. Of every picture, layer and mixture the
IoU after n = 0 … 64 bounces and the n that each rule takes are kept in DIR, so that rules can be judged afterwards;
empty it when a rule changes. 500 pictures take a quarter of an hour on one core at 128 pixels.

On every second picture by name the best fixed n of every layer is chosen (and the rule "halflife" was, at 128 pixels);
everything printed is measured on the others. Differences are paired by picture: mean with
bootstrap 95 % interval, two-sided Wilcoxon signed-rank p (ties dropped), and Holm's correction over all of a table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bounce_rules import LIMIT, RULES, bounces_by
from facts import facts, parser, save
from rich.progress import track
from scipy.stats import wilcoxon

import tokenrank as tr
from tokenrank.evaluate.datasets import Sample, open_dataset
from tokenrank.evaluate.protocols.saliency import seed_of
from tokenrank.models import load

WEIGHTINGS = ("uniform", "lambda2")
COLOURS = {"relax": "#b3541e", "plateau": "#1b7f79", "knee": "#7a5ea8", "halflife": "#c2185b"}
RESAMPLES = 10_000


def table_of(model: Any, sample: Sample) -> dict[str, np.ndarray]:
    """IoU (layers, weightings, n = 0 … LIMIT) and, per rule, steps and capped (layers, weightings, rules)."""
    assert sample.mask is not None
    with tr.capture(model.module) as trace:
        model.forward(model.prepare(sample.image))
    scores, steps, capped = [], [], []
    for name in trace.names:
        full = trace[name][0]
        grid = full.layout.grids["image"]
        heads = full.restrict("image")
        row, column = seed_of(sample.mask, *grid)
        seed = row * grid[1] + column
        start = torch.eye(heads.num_tokens, dtype=torch.float64)[seed]
        for weighting in WEIGHTINGS:
            chain = heads.aggregate(weighting)
            scores.append(ious(chain.bounce(seed, LIMIT, path=True).values, sample.mask, grid).numpy())
            found = [bounces_by(rule, chain.operator, start) for rule in RULES]
            steps.append([int(n) for n, _ in found])
            capped.append([bool(reached) for _, reached in found])
    shape = (-1, len(WEIGHTINGS))
    return {
        "iou": np.array(scores).reshape(*shape, LIMIT + 1),
        "steps": np.array(steps).reshape(*shape, len(RULES)),
        "capped": np.array(capped).reshape(*shape, len(RULES)),
    }


def ious(values: torch.Tensor, mask: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    """Foreground intersection over union of maps (m, patches), enlarged and thresholded at their mean, (m,)."""
    truth = torch.from_numpy(mask)
    enlarged = F.interpolate(values.view(-1, 1, *grid), mask.shape, mode="bilinear")[:, 0]
    found = enlarged > enlarged.mean((-2, -1), keepdim=True)
    both = (found & truth).sum((-2, -1))
    return both / (found.sum((-2, -1)) + truth.sum() - both)


def tables(args: argparse.Namespace) -> tuple[dict[str, np.ndarray], int]:
    """The tables of all pictures, stacked in front, and how many were read from the cache."""
    model, rows, read = None, [], 0
    dataset = open_dataset("ecssd", args.data)
    for key in track(dataset.keys[: args.images], description="pictures"):
        kept = args.cache / f"{args.model}-{args.size}" / f"{key}.npz" if args.cache else None
        if kept is None or not kept.exists():
            model = model or load(args.model, size=args.size)
            table = table_of(model, dataset.read(key))
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.savez(kept, **table)
        else:
            table, read = dict(np.load(kept)), read + 1
        rows.append(table)
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, read


def taken(iou: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """iou (…, n) at steps (…)."""
    return np.take_along_axis(iou, steps[..., None], -1)[..., 0]


def paired(difference: np.ndarray) -> dict[str, Any]:
    """What the differences (pictures,) say."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[drawn].mean(-1), [0.025, 0.975])
    moved = difference[difference != 0]
    return {
        "difference": round(float(difference.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
        "p": float(wilcoxon(moved).pvalue) if len(moved) else 1.0,
    }


def holm(rows: Sequence[dict[str, Any]]) -> None:
    """Adds "p_holm" to rows with "p": the family is all of them."""
    so_far = 0.0
    for place, row in enumerate(sorted(rows, key=lambda r: r["p"])):
        so_far = max(so_far, min(1.0, (len(rows) - place) * row["p"]))
        row["p_holm"] = so_far


def judged(iou: np.ndarray, steps: np.ndarray, capped: np.ndarray) -> list[dict[str, Any]]:
    """A row for every layer and weighting, and one a weighting for the mean over layers."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    count = iou.shape[1]
    rows = []
    for w, weighting in enumerate(WEIGHTINGS):
        best = iou[even, :, w, 1:].mean(0).argmax(-1) + 1  # a layer
        one = int(iou[even, :, w, 1:].mean((0, 1)).argmax()) + 1  # for all layers
        at_best = np.stack([iou[odd, layer, w, best[layer]] for layer in range(count)], -1)
        by_rule = {rule: taken(iou[odd, :, w], steps[odd, :, w, r]) for r, rule in enumerate(RULES)}
        for layer in (*range(count), None):
            chosen = slice(None) if layer is None else [layer]

            def mean(values: np.ndarray, chosen: slice | list[int] = chosen) -> np.ndarray:
                return values[:, chosen].mean(-1)

            curve = iou[odd, :, w][:, chosen].mean(1)
            row: dict[str, Any] = {
                "layer": "mean" if layer is None else layer,
                "heads": weighting,
                "best_fixed_n": best.tolist() if layer is None else int(best[layer]),
                "best_fixed": round(float(mean(at_best).mean()), 4),
                "one_fixed_n": one,
                "one_fixed": round(float(curve[:, one].mean()), 4),
                "oracle": round(float(mean(iou[odd, :, w, 1:].max(-1)).mean()), 4),
                "fixed": [round(float(v), 4) for v in curve.mean(0)],
                "standard_error": [round(float(v), 4) for v in curve.std(0) / len(curve) ** 0.5],
                "rules": {},
            }
            for r, rule in enumerate(RULES):
                n = steps[odd, :, w, r][:, chosen]
                row["rules"][rule] = {
                    "iou": round(float(mean(by_rule[rule]).mean()), 4),
                    "n": dict(zip(("10%", "50%", "90%"), np.quantile(n, [0.1, 0.5, 0.9]).tolist(), strict=True)),
                    "capped": round(float(capped[odd, :, w, r][:, chosen].mean()), 3),
                    "against_best_fixed": paired(mean(by_rule[rule] - at_best)),
                    "against_one_fixed": paired(mean(by_rule[rule]) - curve[:, one]),
                }
            rows.append(row)
    for against in ("against_best_fixed", "against_one_fixed"):
        holm([row["rules"][rule][against] for row in rows for rule in RULES])
    return rows


def report(rows: list[dict[str, Any]], pictures_judged: int) -> None:
    print(f"\nMean foreground IoU on {pictures_judged} pictures; in brackets n (rules: median)\n")
    print("| layer | heads | n for all | best n a layer | " + " | ".join(RULES) + " | best n a picture |")
    print("|---" * (5 + len(RULES)) + "|")
    for row in rows:
        fixed_n = "" if row["layer"] == "mean" else f" ({row['best_fixed_n']})"
        cells = [f"{row['one_fixed']:.3f} ({row['one_fixed_n']})", f"{row['best_fixed']:.3f}{fixed_n}"]
        for rule in RULES:
            found = row["rules"][rule]
            cells.append(f"{found['iou']:.3f} ({found['n']['50%']:.0f})")
        print(f"| {row['layer']} | {row['heads']} | " + " | ".join(cells) + f" | {row['oracle']:.3f} |")
    for against in ("against_best_fixed", "against_one_fixed"):
        print(f"\nRule {against.replace('_', ' ')}, paired by picture\n")
        print("| layer | heads | rule | difference | 95 % | better / worse | p | p, Holm |\n" + "|---" * 8 + "|")
        for row in rows:
            for rule in RULES:
                d = row["rules"][rule][against]
                low, high = d["interval"]
                print(
                    f"| {row['layer']} | {row['heads']} | {rule} | {d['difference']:+.4f} | {low:+.4f} … {high:+.4f} "
                    f"| {d['better']} / {d['worse']} | {d['p']:.1e} | {d['p_holm']:.1e} |"
                )


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """IoU against n, a panel a layer; rules at the median n that they take and the IoU that they reach."""
    from matplotlib.figure import Figure

    layers = [row for row in rows if row["heads"] == "uniform" and row["layer"] != "mean"]
    figure = Figure(figsize=(8.4, 5.0), layout="constrained")
    panels = figure.subplots(2, -(-len(layers) // 2), sharex=True).flatten()
    for axes, row in zip(panels, layers, strict=False):
        n = np.arange(1, len(row["fixed"]))
        mean, error = np.array(row["fixed"])[1:], np.array(row["standard_error"])[1:]
        axes.fill_between(n, mean - error, mean + error, color="#dddddd", linewidth=0)
        axes.plot(n, mean, color="#444444", linewidth=1.2, label="n bounces, ± standard error")
        axes.plot(row["best_fixed_n"], row["best_fixed"], "x", color="#000000", label="best fixed n (other half)")
        for rule in RULES:
            found = row["rules"][rule]
            low, middle, high = found["n"].values()
            axes.hlines(found["iou"], low, high, color=COLOURS[rule], linewidth=1.0, alpha=0.6)
            axes.plot(middle, found["iou"], "o", color=COLOURS[rule], markersize=5, label=rule)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
        axes.set_title(f"layer {row['layer']}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    for axes in panels[len(layers) :]:
        axes.set_axis_off()
    figure.supxlabel("bounces", fontsize=9)
    figure.supylabel("mean IoU", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=7, frameon=False)
    figure.savefig(file, dpi=200)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--model", default="bundled")
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--size", type=int, default=128, help="long side in pixels")
    arguments.add_argument("--cache", type=Path, help="folder for the tables of the pictures")
    arguments.add_argument("--figure", type=Path)
    args = arguments.parse_args()
    start = time.monotonic()
    found, read = tables(args)
    rows = judged(found["iou"], found["steps"], found["capped"])
    report(rows, len(found["iou"]) // 2)
    if args.figure:
        draw(rows, args.figure)
    about = facts("scipy", hidden={args.data: "DATA", str(args.cache): "CACHE"}) | {
        "pictures": len(found["iou"]),
        "pictures_judged": len(found["iou"]) // 2,
        "size": args.size,
        "model": args.model,
        "limit": LIMIT,
        "seconds": round(time.monotonic() - start),
        "from_cache": read,
        "threads": torch.get_num_threads(),
    }
    save(args.out, about, rows)


if __name__ == "__main__":
    main()
