"""Does a classifier fail sooner when the patches go that TokenRank calls important?

    python benchmarks/classifier_masking.py NETWORK DATA CACHE --images 1000 --runs RUNS --out FOLDER

NETWORK, DATA and CACHE as for ``benchmarks/classifier.py``, which must have run before. Pictures are drawn from those
validation pictures that the classifier knows: the others stay unknown however they are masked. Patches go as keys in
every layer, and as black pixels; the most important first, and the least important first. FOLDER gets
``evidence-masking-{keys,pixels}-dinov2-small.json``, RUNS keeps the rows, so that a stopped run goes on (``--rows``
only writes the files again from them).

Layers were fixed before: TokenRank found objects best in layer 9 of 12 on other data, the row of CLS in the last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from classifier import HEAD, SIDE, classifier, exactly, known
from facts import facts, parser, save
from safetensors import safe_open
from torch import Tensor

from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.protocols import Masking
from tokenrank.evaluate.runner import Run, run
from tokenrank.evaluate.statistics import bootstrap, compare
from tokenrank.progress import listening

METHODS = (
    "tokenrank:layer=9:heads=uniform",
    "column_sum:layer=9:heads=uniform",
    "cls_row:layer=9:heads=uniform",
    "cls_row:layer=11:heads=uniform",
    "rollout",
    "generic_relevance",
    "random",
)
WAYS = ("keys", "pixels")
ORDERS = ("most", "least")


class Quick(Masking):
    """Maps are those of the network in float32; only the many forwards with patches gone multiply in bfloat16."""

    def rows(self, *given: Any) -> list[dict[str, Any]]:
        with exactly():
            return super().rows(*given)

    def _masked(self, *given: Any) -> Tensor:
        with exactly(False):
            return super()._masked(*given)


PROTOCOL = Quick(how=WAYS, orders=ORDERS, ratios=(0, 0.25, 0.5, 0.75), side=SIDE, batch=64)


def lines_of(rows: pd.DataFrame, way: str) -> list[dict[str, Any]]:
    """A line a method: accuracy at every ratio and the area under it (at most 75) with its bootstrap interval."""
    lines = []
    for method, part in rows.groupby("method", sort=False):
        line: dict[str, Any] = {"method": method}
        for order in ORDERS:
            curve = f"{way}_{order}"
            area = bootstrap(part[f"auc_{curve}"].to_numpy())
            line[f"auc_{order}"] = rounded(area.estimate, area.low, area.high)
            line[f"accuracy_{order}"] = rounded(*np.stack(part[f"correct_{curve}"].to_list()).mean(0))
            line[f"probability_{order}"] = rounded(*np.stack(part[f"probability_{curve}"].to_list()).mean(0))
        lines.append(line)
    return lines


def pairs_of(rows: pd.DataFrame, way: str) -> list[dict[str, Any]]:
    """TokenRank against every other method, picture by picture."""
    found = []
    for order in ORDERS:
        table = rows.pivot(index="key", columns="method", values=f"auc_{way}_{order}")
        for other in METHODS[1:]:
            pair = compare(table[METHODS[0]].to_numpy(), table[other].to_numpy())
            interval = rounded(pair.difference.estimate, pair.difference.low, pair.difference.high)
            p = float(f"{pair.p:.2g}")
            found.append({"order": order, "first": METHODS[0], "second": other, "difference": interval, "p": p})
    return found


def rounded(*values: float) -> list[float]:
    return [round(float(value), 4) for value in values]


def page(rows: pd.DataFrame) -> str:
    """The table in Markdown: areas under the accuracy, and TokenRank of layer 9 minus each method."""
    lines = []
    for way in WAYS:
        pairs = {(p["order"], p["second"]): p for p in pairs_of(rows, way)}
        lines += [f"| {way} | most first (low is good) | TokenRank minus it | least first (high is good) | "
                  "TokenRank minus it |", "|---|---|---|---|---|"]  # fmt: skip
        for line in lines_of(rows, way):
            cells = [line["method"]]
            for order in ORDERS:
                area, low, high = line[f"auc_{order}"]
                cells.append(f"{area:.1f} [{low:.1f}, {high:.1f}]")
                pair = pairs.get((order, line["method"]))
                cells.append("" if pair is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*pair["difference"])
                             + f", p {pair['p']:.0e}")  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("network", type=Path)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("cache", type=Path)
    arguments.add_argument("--images", type=int)
    arguments.add_argument("--runs", type=Path, required=True)
    arguments.add_argument("--rows", action="store_true")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    folder = args.runs / "classifier-masking"
    if not args.rows:
        dataset = open_dataset("parquet", args.data, split="val")
        dataset.keys = known(args.data, args.cache)
        methods = PROTOCOL.methods(",".join(METHODS))
        model = classifier(args.network, args.cache)
        with listening(lambda words, n, total: print(n, "of", total, words, flush=True)):
            run(PROTOCOL, dataset, model, methods, folder, limit=args.images, batch=4)
    done = Run(folder)
    rows = done.rows()
    with safe_open(args.cache / HEAD, framework="pt") as file:
        trained = dict(file.metadata())
    hidden = {args.network: "NETWORK", args.data: "DATA", args.cache: "CACHE", args.runs: "RUNS", "--rows": ""}
    about = facts(hidden=hidden | {args.out: "FOLDER"}) | {
        "network": "dinov2-small",
        "classifier": trained,
        "size": SIDE,
        "images": int(rows["key"].nunique()),
        "drawn": len(done.keys),  # more than images where the run was stopped; the data set's order is random
        "failures": len(done.failures),
        "ratios": list(PROTOCOL.ratios),
    }
    for way in WAYS if args.out else ():
        file = args.out / f"evidence-masking-{way}-dinov2-small.json"
        save(file, about | {"way": way, "pairs": pairs_of(rows, way)}, lines_of(rows, way))
    print(json.dumps({k: v for k, v in about.items() if k in ("images", "drawn", "classifier")}))
    print(page(rows))


if __name__ == "__main__":
    main()
