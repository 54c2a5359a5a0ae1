"""Figures of docs/evidence.md: the seed sweep by layer, methods with intervals, masks on the four photographs.

    python benchmarks/evidence_figures.py sweep
    python benchmarks/evidence_figures.py methods
    python benchmarks/evidence_figures.py masks --model FOLDER --size N

The first two are drawn from benchmarks/results/evidence-*.json, the third from the network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from evidence_page import NETWORKS, Result, read
from evidence_plans import BOUNCES, CONTROLS
from facts import parser
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.models import read_image
from tokenrank.view.style import FULL, QUIET, SMALL, paper_style

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
PURPLES = ("#c6a5dd", "#9b5fc0", "#6a2c94", "#43135f", "#1d0530")
ORANGE, GREEN, GREY = "#e08214", "#1b7837", "#b9b9c3"
SHOWN = 13  # methods in the bars


def sweep() -> Figure:
    """Mean IoU against the layer, a line for every number of bounces, in four networks."""
    found = {title: result for title, name in NETWORKS.items() if (result := read(f"seed-{name}"))}
    figure = Figure(figsize=(FULL, 2.35), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (title, result) in zip(panels, found.items(), strict=True):
        _sweep(axes, result)
        axes.set_title(f"{title}, {result.about['size']} px, {result.about['images']} pictures", fontsize=SMALL + 0.5)
    panels[0].set_ylabel("mean IoU, ECSSD")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=SMALL, frameon=False)
    return figure


def _sweep(axes: Axes, result: Result) -> None:
    layers = result.about["layers"]

    def line(name: str) -> list[float]:
        return [result.value(f"{name}:layer={layer}:heads=uniform") for layer in layers]

    for n, colour in zip(BOUNCES, PURPLES, strict=True):
        axes.plot(layers, line(f"bounce:n={n}"), color=colour, lw=1.2, marker="o", ms=2, label=f"n = {n}")
    others = {"tokenrank": ("TokenRank", GREEN), "cls_row": ("CLS row", ORANGE), "column_sum": ("column sum", QUIET)}
    for name, (label, colour) in others.items():
        axes.plot(layers, line(name), color=colour, lw=1.0, ls="--", label=label)
    axes.axhline(result.value("centre_prior"), color=GREY, lw=0.8, label="centre, no attention")
    axes.set_xlabel("layer")
    axes.set_xticks(layers[:: 2 if len(layers) > 6 else 1])
    axes.set_ylim(0.05, 0.72)
    axes.spines[["top", "right"]].set_visible(False)


def methods() -> Figure:
    """Methods that are told nothing, best first, with 95 % intervals of the mean."""
    names = {"DINOv2-small, 224 px": "arrival-dinov2-small-224", "bundled, 128 px": "arrival-bundled-128"}
    found = {title: result for title, name in names.items() if (result := read(name))}
    figure = Figure(figsize=(FULL, 3.6), layout="constrained")
    for axes, (title, result) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        about, rows = result.about, result.rows
        best = [m for m in about["chosen"] if re.fullmatch(r"arrival:.*backward=yes:n=2.*|(?!arrival:|saliency$).*", m)]
        best = sorted(best, key=lambda m: -rows[m]["iou_odd"])
        first_order = [m for m in best[SHOWN:] if m.startswith(("tokenrank:layer", "column_sum", "cls_row"))]
        best = [m for m in best if m not in CONTROLS][:SHOWN] + first_order + [m for m in best if m in CONTROLS]
        best = sorted(best, key=lambda m: rows[m]["iou_odd"])
        values = [rows[m]["iou_odd"] for m in best]
        errors = [1.96 * about["standard_errors"][m] for m in best]
        colours = [_colour(m) for m in best]
        axes.barh(range(len(best)), values, xerr=errors, color=colours, error_kw={"lw": 0.7, "ecolor": QUIET})
        axes.set_yticks(range(len(best)), [_short(m) for m in best], fontsize=SMALL - 0.7)
        axes.set_xlabel("mean IoU, ECSSD, reporting half")
        axes.set_xlim(0, 0.72)
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "purple: chains; orange: others; grey: controls, which see no attention; 95 % of the mean", fontsize=SMALL
    )
    return figure


def _colour(method: str) -> str:
    if method in CONTROLS:
        return GREY
    return PURPLES[2] if method.startswith(("arrival", "saliency", "tokenrank")) else ORANGE


def _short(method: str) -> str:
    for long in (":heads=uniform", "direction=", "start=", ":backward=yes", "how=", "what=", "side=", "layer="):
        method = method.replace(long, "" if long.startswith(":") else "layer " if long == "layer=" else "")
    return method.replace(":", ", ")


def masks(model: str, size: int | None) -> Figure:
    """The four photographs that come with the package, and what is above each map's mean."""
    network, names = tr.load(model, size=size), tr.samples.names()
    seen = {name: tr.observe(read_image(tr.samples.path(name)), network) for name in names}
    last = len(seen[names[0]].layers) - 1
    made: dict[str, Any] = {
        "n = 1": lambda o, at: o.chain(last, "uniform").bounce(at, 1),
        "n = 2": lambda o, at: o.chain(last, "uniform").bounce(at, 2),
        "n = 8": lambda o, at: o.chain(last, "uniform").bounce(at, 8),
        "column sum": lambda o, at: tr.baselines.column_sum(o, layer=last - 2, heads="uniform"),
        "TokenRank": lambda o, at: o.chain(last - 2, "uniform").tokenrank(),
        "CLS row": lambda o, at: tr.baselines.cls_row(o, layer=last),
        "arrival": lambda o, at: tr.tasks.arrival(o),
    }
    figure = Figure(figsize=(FULL, 0.8 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(made) + 1)
    for row, (name, observation) in zip(panels, seen.items(), strict=True):
        picture, start = observation.picture, tr.samples.start(name)
        pixels = np.asarray(picture) / 255
        row[0].imshow(pixels)
        row[0].plot(start.x * picture.width, start.y * picture.height, "o", ms=3, mfc="white", mec="black", mew=0.6)
        for axes, make in zip(row[1:], made.values(), strict=True):
            values = make(observation, start).upsample((picture.height, picture.width)).double().cpu().numpy()
            kept = values > values.mean()
            axes.imshow(np.where(kept[..., None], pixels, 0.25 * pixels.mean(-1, keepdims=True) + 0.75))
            axes.contour(kept, [0.5], colors=[PURPLES[2]], linewidths=0.6)
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(panels[0], ["seed", *made], strict=True):
        axes.set_title(title, fontsize=SMALL + 0.5)
    return figure


def main() -> None:
    arguments = parser(__doc__, out=False)
    arguments.add_argument("figure", choices=("sweep", "methods", "masks"))
    arguments.add_argument("--model", default="bundled")
    arguments.add_argument("--size", type=int)
    args = arguments.parse_args()
    with paper_style():
        figure = masks(args.model, args.size) if args.figure == "masks" else globals()[args.figure]()
        figure.savefig(FOLDER / f"evidence-{args.figure}.png", dpi=140)


if __name__ == "__main__":
    main()
