"""Figures and tables of docs/evidence.md from benchmarks/results/evidence-*.json.

    python benchmarks/evidence_page.py [--runs FOLDER]

Prints the tables as markdown and writes docs/figures/evidence-saliency.png and evidence-masking.png. With --runs,
paired tests on the images at odd places, from the rows of the runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from evidence import BOUNCES, HEADS, LAYERS, family
from facts import parser
from matplotlib.figure import Figure

from tokenrank.evaluate.datasets import half
from tokenrank.evaluate.runner import Run
from tokenrank.evaluate.statistics import bootstrap, rank_biserial, wilcoxon

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
PAIRS = {
    "saliency": (
        ("saliency:how=border:heads=lambda2", "saliency:how=border:heads=uniform"),
        ("saliency:how=border:heads=lambda2", "lattice"),
        ("saliency:how=border:heads=lambda2", "centre_prior"),
        ("saliency:how=border:heads=lambda2", "TOKENCUT"),
        ("saliency:how=border:heads=lambda2", "rollout"),
        ("saliency:how=slow:heads=uniform", "TOKENCUT"),
        ("saliency:how=slow:side=seed:heads=uniform", "TOKENCUT"),
        ("saliency:how=slow:heads=lambda2", "saliency:how=slow:heads=uniform"),
        ("TOKENRANK", "COLUMN"),
        ("TOKENRANK", "CLS"),
        ("TOKENRANK", "BACKWARD"),
        ("TOKENRANK", "rollout"),
        ("BACKWARD", "TOKENCUT"),
    ),
}
FAMILIES = {
    "TOKENCUT": "tokencut",
    "TOKENRANK": "tokenrank",
    "BACKWARD": "tokenrank:direction=backward",
    "COLUMN": "column_sum",
    "CLS": "cls_row",
}


def read(name: str) -> dict[str, Any] | None:
    file = RESULTS / f"evidence-{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def saliency(facts: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in facts["rows"]}
    best = sorted(facts["chosen"], key=lambda m: -rows[m]["iou_odd"])
    print(f"\n{facts['images']} images, {facts['failures']} failures\n")
    print(
        "| method (layer and heads chosen on the even half) | IoU, even half "
        "| IoU | + component | + refined | + both | CorLoc |"
    )
    print("|---" * 7 + "|")
    for method in best:
        r = rows[method]
        cells = [
            r[f"{c}_{s}"]
            for c, s in (
                ("iou", "even"),
                *((c, "odd") for c in ("iou", "iou_component", "iou_refined", "iou_component_refined", "corloc")),
            )
        ]
        print(f"| `{method}` | " + " | ".join(f"{v:.3f}" for v in cells) + " |")
    names = (
        "tokenrank",
        "tokenrank:direction=backward",
        "column_sum",
        "cls_row",
        "saliency:how=border",
        "saliency:how=slow",
        "saliency:how=slow:side=seed",
        "tokencut",
        "lost",
        "deep_spectral",
    )
    print("\n| IoU, all images, by layer | " + " | ".join(map(str, range(6))) + " |")
    print("|---" * 7 + "|")
    for name in names:
        for heads in ("", ":heads=lambda2"):
            cells = []
            for layer in range(6):
                found = [
                    m
                    for m in rows
                    if family(m) == name and f"layer={layer}" in m and ("heads=lambda2" in m) == bool(heads)
                ]
                cells.append(f"{(rows[found[0]]['iou_even'] + rows[found[0]]['iou_odd']) / 2:.3f}" if found else "")
            if any(cells):
                print(f"| `{name}{heads}` | " + " | ".join(cells) + " |")
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    values = [rows[m]["iou_odd"] for m in best][::-1]
    errors = [1.96 * facts["standard_errors"][m] for m in best][::-1]
    ours = [m.startswith(("saliency", "tokenrank")) for m in best][::-1]
    controls = [m in ("lattice", "centre_prior", "random") for m in best][::-1]
    colours = ["#5b2a86" if o else "#b9b9c3" if c else "#e08214" for o, c in zip(ours, controls, strict=True)]
    axes.barh(range(len(best)), values, xerr=errors, color=colours, error_kw={"lw": 0.8})
    axes.set_yticks(range(len(best)), best[::-1], fontsize=6.5)
    axes.set_xlabel("mean IoU, odd half, 95 %; purple: chains, orange: others, grey: controls", fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURES / "evidence-saliency.png", dpi=160)


def pairs(name: str, facts: dict[str, Any], runs: Path) -> None:
    rows = Run(runs / name).rows()
    rows = rows[rows["key"].isin(half(sorted(set(rows["key"])), 1))]
    table = rows.pivot(index="key", columns="method", values="iou")
    by_family = {family(m): m for m in facts["chosen"]}
    print("\n| first | second | difference of IoU [95 %] | p (Wilcoxon) | rank-biserial |\n|---|---|---|---|---|")
    for first, second in PAIRS[name]:
        a, b = (by_family[FAMILIES[m]] if m in FAMILIES else m for m in (first, second))
        found = paired(table[a].to_numpy(), table[b].to_numpy())
        print(f"| `{a}` | `{b}` | {found} |")


def paired(a: np.ndarray, b: np.ndarray) -> str:

    interval = bootstrap(a - b, seed=0)
    _, p = wilcoxon(a, b)
    return f"{(a - b).mean():+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] | {p:.1g} | {rank_biserial(a, b):+.2f}"


def seed() -> None:
    """Mean IoU of every layer over all images: from a seed, and maps without one."""
    facts = read("seed")
    if not facts:
        return
    rows = {row["method"]: (row["iou_even"] + row["iou_odd"]) / 2 for row in facts["rows"]}
    columns = {f"n = {n}": f"bounce:n={n}" for n in BOUNCES}
    columns |= {"column sum": "column_sum", "CLS row": "cls_bounce:n=1", "TokenRank": "tokenrank"}
    columns |= {"TokenRank backward": "tokenrank:direction=backward"}
    print(f"\nseed: {facts['images']} images\n\n| layer | heads | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for layer in LAYERS:
        for heads in HEADS:
            values = [rows[f"{name}:layer={layer}:heads={heads}"] for name in columns.values()]
            cells = (f"**{v:.3f}**" if v == max(values) else f"{v:.3f}" for v in values)
            print(f"| {layer} | {'λ2' if heads == 'lambda2' else heads} | " + " | ".join(cells) + " |")


def masking() -> None:
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    parts = [(how, facts) for how in ("keys", "pixels") if (facts := read(f"masking-{how}"))]
    for place, (how, facts) in enumerate(parts):
        rows = {row["method"]: row for row in facts["rows"]}
        auc = {
            m: [(r[f"auc_{how}_{o}_even"] + r[f"auc_{how}_{o}_odd"]) / 2 for o in ("most", "least")]
            for m, r in rows.items()
        }
        soft = {
            m: [
                (r[f"probability_auc_{how}_{o}_even"] + r[f"probability_auc_{how}_{o}_odd"]) / 2
                for o in ("most", "least")
            ]
            for m, r in rows.items()
        }
        print(
            f"\n{how}: {facts['images']} images\n\n| method | AUC, most first ↓ | AUC, least first ↑ "
            "| probability, most ↓ | probability, least ↑ |\n|---|---|---|---|---|"
        )
        for m in sorted(auc, key=lambda m: auc[m][0]):
            print(f"| `{m}` | {auc[m][0]:.2f} | {auc[m][1]:.2f} | {soft[m][0]:.2f} | {soft[m][1]:.2f} |")
        axes = figure.add_subplot(1, len(parts), place + 1)
        for m, (most, least) in soft.items():
            colour = "#5b2a86" if m.startswith(("tokenrank", "saliency")) else "#b9b9c3" if m == "random" else "#e08214"
            axes.scatter(most, least, s=14, color=colour)
            if ":" not in m or m.endswith("layer=5"):
                axes.annotate(m, (most, least), fontsize=5, xytext=(2, 2), textcoords="offset points")
        axes.set_title(f"masked {how}", fontsize=8)
        axes.set_xlabel("probability AUC, most important first (lower is better)", fontsize=6.5)
        axes.set_ylabel("least important first (higher is better)", fontsize=6.5)
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
    if parts:
        figure.savefig(FIGURES / "evidence-masking.png", dpi=160)


def regions() -> None:
    facts = read("regions")
    if not facts:
        return
    columns = [c.removesuffix("_odd") for c in facts["rows"][0] if c.endswith("_odd")]
    print(
        f"\nregions: {facts['images']} images\n\n| method | "
        + " | ".join(columns)
        + " |\n"
        + "|---" * (len(columns) + 1)
        + "|"
    )
    for r in facts["rows"]:
        print(
            f"| `{r['method']}` | " + " | ".join(f"{(r[c + '_even'] + r[c + '_odd']) / 2:.3f}" for c in columns) + " |"
        )


def main() -> None:
    arguments = parser(__doc__, out=False)
    arguments.add_argument("--runs", type=Path)
    args = arguments.parse_args()
    if facts := read("saliency"):
        saliency(facts)
        if args.runs:
            pairs("saliency", facts, args.runs)
    seed()
    masking()
    regions()


if __name__ == "__main__":
    main()
