"""Tables of the section "Clustering" of docs/diffusion.md, from results/diffseg.json and results/diffusion.json.

    python -m benchmarks.diffseg_page

Tables of other sections are left as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from filled import SPACE, Tables, refill, result, seconds, source, table

NETWORKS = {"dinov2-small": "DINOv2-small", "flux": "small FLUX"}
DATA = {"coco": "COCO", "ecssd": "ECSSD", "bsds500": "BSDS500"}
METHODS = {
    "uniform": "uniform grid",
    "tokenrank-top": "TokenRank, largest",
    "tokenrank-nms": "TokenRank, largest and apart",
    "tokenrank-sample": "TokenRank, drawn",
    "tokenrank-cells": "TokenRank, best of each cell",
    "metastable": "metastable groups, as many each",
    "blocks": "*rectangles, as many*",
    "groups": "*metastable groups themselves*",
    "cuts": "*recursive cuts of the walk*",
}
SURE = 0.05


def verdict() -> str:
    """How many comparisons are sure, of the TokenRank grids and of the metastable one."""
    found = result("diffseg")
    words = []
    for name, chosen_by in {
        "TokenRank": lambda method: method.startswith("tokenrank"),
        "metastable": "metastable".__eq__,
    }.items():
        shared = [line for line in found["rows"] if line["shared"] and chosen_by(line["method"])]
        every = [line for run in found["runs"].values() for line in run["everywhere"] if chosen_by(line["method"])]
        told = [
            f"covering {sure(shared, 'covering_pair')}",
            f"strict mIoU {sure(shared, 'miou_strict_pair')}",
            f"accuracy {sure(shared, 'accuracy_pair')}",
        ]
        words.append(
            f"**{name}**, at the distance that suits the uniform grid: {', '.join(told)}; at every distance: covering "
            f"{sure(every, 'covering_pair')}, strict mIoU {sure(every, 'miou_strict_pair')}."
        )
    return "\n\n".join(words)


def sure(lines: list[Mapping[str, Any]], column: str) -> str:
    """Better and worse than the uniform grid, of all comparisons."""
    differences = [line[column]["difference"] for line in lines if line[column]["holm"] < SURE]
    better = sum(value > 0 for value in differences)
    return f"better in {better} and worse in {len(differences) - better} of {len(lines)}"


def grids() -> str:
    """Every data set: the grids at the distance of the uniform one, and what stands beside them."""
    lines = result("diffseg")["rows"]
    rows = []
    for network in NETWORKS:
        for data in DATA:
            own = [line for line in lines if (line["network"], line["data"]) == (network, data)]
            first = f"{NETWORKS[network]}, {DATA[data]}"
            for method in METHODS:
                line = chosen(own, method)
                if line:
                    rows.append([first, METHODS[method], *figures(line)])
                    first = ""
    head = ["", "anchors", "segments", "covering", "± uniform", "mIoU", "mIoU strict", "± uniform", "ACC", "± uniform"]
    return table(head, rows, 2)


def own_distance() -> str:
    """The grids, each at the distance that suits it best: covering less that of the uniform grid."""
    lines = result("diffseg")["rows"]
    rows = []
    for method in [name for name in METHODS if name.startswith("tokenrank") or name == "metastable"]:
        cells = []
        for network in NETWORKS:
            for data in DATA:
                found = [
                    line
                    for line in lines
                    if (line["network"], line["data"], line["method"]) == (network, data, method) and line["own"]
                ]
                cells.append(difference(found[0]["covering_pair"]) if found else "")
        rows.append([METHODS[method], *cells])
    head = ["anchors", *(f"{NETWORKS[network]}, {DATA[data]}" for network in NETWORKS for data in DATA)]
    return table(head, rows, 1)


def every_distance() -> str:
    """At how many of the distances a grid is better and worse than the uniform one, on all pictures."""
    runs = result("diffseg")["runs"]
    rows = []
    for method in [name for name in METHODS if name.startswith("tokenrank") or name == "metastable"]:
        cells = []
        for network in NETWORKS:
            for data in DATA:
                own = [x for x in runs.get(f"{network} {data}", {}).get("everywhere", []) if x["method"] == method]
                sure = [pair["difference"] for pair in (x["covering_pair"] for x in own) if pair["holm"] < SURE]
                better = sum(value > 0 for value in sure)
                cells.append(f"{better} / {len(sure) - better} of {len(own)}" if own else "")
        rows.append([METHODS[method], *cells])
    head = ["anchors", *(f"{NETWORKS[network]}, {DATA[data]}" for network in NETWORKS for data in DATA)]
    return table(head, rows, 1)


def pooled() -> str:
    """ACC and mIoU from counts summed over the data set, both treatments of spare segments."""
    lines = [line for line in result("diffseg")["rows"] if "data_miou" in line]
    rows = []
    for network in NETWORKS:
        for data in DATA:
            own = [line for line in lines if (line["network"], line["data"]) == (network, data)]
            first = f"{NETWORKS[network]}, {DATA[data]}"
            for method in METHODS:
                line = chosen(own, method)
                if line:
                    keys = ("data_accuracy", "data_miou", "data_miou_strict")
                    rows.append([first, METHODS[method], *(f"{line[key]:.3f}" for key in keys)])
                    first = ""
    head = ["", "anchors", "ACC", "mIoU, spare segments to absent classes", "mIoU, spare segments to none"]
    return table(head, rows, 2)


def settings() -> str:
    """What was run: the command, pictures, distances."""
    found = result("diffseg")
    told = []
    for network, name in NETWORKS.items():
        runs = {DATA[data]: found["runs"][f"{network} {data}"] for data in DATA if f"{network} {data}" in found["runs"]}
        taus = ", ".join(f"{data} τ = {run['tau']:g} ({run['reported']} pictures)" for data, run in runs.items())
        if taus:
            told.append(f"{name}: {taus}")
    return f"{source(found)} {'; '.join(told)}."


def cost() -> str:
    """A picture's time and memory beside the plain port."""
    found = result("diffusion")["diffseg"]
    names = {"streamed": "`cluster`, from queries and keys to labels", "plain": "the plain port",
             "aggregated": "joining the layers alone"}  # fmt: skip
    rows = [[words, seconds(found[way]["seconds"]), f"{found[way]['gb']:.2f}{SPACE}GB"] for way, words in names.items()]
    said = (
        f"{found['faster']:.0f} × faster and {found['less_memory']:.0f} × less memory than the port; "
        f"{found['other_label']:.1%} of the pixels have another label."
    )
    return f"{table(['', 'time', 'memory above the inputs'], rows, 1)}\n\n{said} {source(found)}"


def chosen(lines: list[Mapping[str, Any]], method: str) -> Mapping[str, Any] | None:
    """At the distance of the uniform grid; of methods without distances their own."""
    found = [line for line in lines if line["method"] == method]
    shared = [line for line in found if line["shared"]]
    return (shared or found or [None])[0]


def figures(line: Mapping[str, Any]) -> list[str]:
    """The cells of a method."""
    pairs = {name: difference(line.get(f"{name}_pair")) for name in ("covering", "miou_strict", "accuracy")}
    return [
        f"{line['segments']:.1f}", f"{line['covering']:.3f}", pairs["covering"], f"{line['miou']:.3f}",
        f"{line['miou_strict']:.3f}", pairs["miou_strict"], f"{line['accuracy']:.3f}", pairs["accuracy"],
    ]  # fmt: skip


def difference(pair: Mapping[str, float] | None) -> str:
    """Less the uniform grid, in points of a hundredth; bold where Holm's p is below 0.05."""
    if pair is None:
        return ""
    words = f"{100 * pair['difference']:+.1f}".replace("-", "−")
    return f"**{words}**" if pair["holm"] < SURE else words


TABLES: Tables = {
    "DiffSeg verdict": verdict,
    "DiffSeg grids": grids,
    "DiffSeg grids, each at its own distance": own_distance,
    "DiffSeg grids at every distance": every_distance,
    "DiffSeg over a data set": pooled,
    "DiffSeg settings": settings,
    "DiffSeg cost": cost,
}


def main() -> None:
    refill("diffusion.md", TABLES)


if __name__ == "__main__":
    main()
