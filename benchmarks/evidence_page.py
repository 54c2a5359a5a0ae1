"""Tables of docs/evidence.md, from benchmarks/results/evidence-*.json.

    python benchmarks/evidence_page.py

Writes every table anew between its marks ``<!-- NAME -->`` and ``<!-- / -->``, with the command that measured it:
no figure is copied by hand. The figures are made by ``benchmarks/evidence_figures.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from evidence_plans import BOUNCES
from facts import parser

from tokenrank.evaluate.statistics import holm

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "evidence.md"
NETWORKS = {
    "DINOv2-small": "dinov2-small-224",
    "bundled": "bundled-128",
    "CLIP B/16": "clip-vit-b16-224",
    "toy": "toy-128",
}
"""The four of the verdicts, from the most to the least structured."""
MARKS = re.compile(r"<!-- (verdicts|methods|\w+ [\w-]+) -->\n(.*?)<!-- / -->", re.DOTALL)


@dataclass(frozen=True)
class Result:
    """One file of benchmarks/results."""

    about: dict[str, Any]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Method → its figures."""
        return {row["method"]: row for row in self.about["rows"]}

    def value(self, method: str, column: str = "iou_all") -> float:
        return float(self.rows[method][column])

    def pairs(self, first: str, second: str, where: str = "everywhere") -> list[dict[str, Any]]:
        """Comparisons whose names match the two patterns."""
        found = self.about.get(where, [])
        return [p for p in found if re.fullmatch(first, p["first"]) and re.fullmatch(second, p["second"])]


def read(name: str) -> Result | None:
    """A result by what follows "evidence-" in its file's name; None where it was not measured."""
    file = RESULTS / f"evidence-{name}.json"
    return Result(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rows = [f"| {' | '.join(cells)} |" for cells in [head, *map(list, lines)]]
    return "\n".join([rows[0], "|---" * len(head) + "|", *rows[1:]])


def command(result: Result) -> str:
    """What was run, on how many pictures, when."""
    about = result.about
    failed = f", {about['failures']} left out" if about["failures"] else ""
    words = about["command"].replace("--model ", "--model NETWORKS/").replace("NETWORKS/bundled", "bundled")
    words = words.replace(about["network"], about["network"].replace("_", "-"))
    words = re.sub(r"--only (\S+)", r"--only '\1'", words)
    return f"`{words}`: {about['images']} pictures{failed}, {about['date']}."


def named(method: str) -> str:
    """The method as ``--methods`` takes it; the control that benchmarks alone have, in words."""
    return "Gaussian around the seed" if method == "seed_prior" else f"`{method}`"


def signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def difference(pair: dict[str, Any]) -> str:
    """+0.018 [+0.010, +0.027], p 1e-3."""
    low, high = signed(pair["low"]), signed(pair["high"])
    return f"{signed(pair['difference'])} [{low}, {high}], p {small(pair['p'])}"


def small(p: float) -> str:
    """A p value: 3e-8, 0.25."""
    return f"{p:.0e}".replace("e-0", "e-") if p < 0.01 else f"{p:.2f}"


def layers_table(result: Result) -> str:
    """Mean IoU of every layer over all pictures, heads mixed evenly; what |λ2| in their place changes."""
    about = result.about
    columns = {f"n = {n}": f"bounce:n={n}" for n in BOUNCES}
    columns |= {"column sum": "column_sum", "TokenRank": "tokenrank", "CLS row": "cls_row"}
    weighed = {"λ2: n = 1": "bounce:n=1", "n = 2": "bounce:n=2", "TokenRank": "tokenrank"}
    if f"tokenrank:layer={about['layers'][0]}:heads=lambda2" not in result.rows:
        weighed = {}
    lines = []
    for layer in about["layers"]:
        at = f"layer={layer}:heads="
        values = {title: result.value(f"{name}:{at}uniform") for title, name in columns.items()}
        best = max(values[f"n = {n}"] for n in BOUNCES)
        cells = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values.values()]
        moved = [result.value(f"{n}:{at}lambda2") - result.value(f"{n}:{at}uniform") for n in weighed.values()]
        lines.append([str(layer), *cells, *map(signed, moved)])
    return table(["layer", *columns, *weighed], lines)


def chosen_table(result: Result) -> str:
    """Methods whose layer and heads were chosen on one half, with what they reach on the other."""
    about, rows = result.about, result.rows
    methods = sorted(about["chosen"], key=lambda m: -rows[m]["iou_odd"])
    posts = {
        "iou_component": "+ component",
        "iou_refined": "+ refined",
        "iou_component_refined": "+ both",
        "max_f": "maxF",
        "corloc": "CorLoc",
    }
    kept = {c: title for c, title in posts.items() if f"{c}_odd" in rows[methods[0]]}
    lines = []
    for m in methods:
        error = 1.96 * about["standard_errors"][m]
        cells = [f"{rows[m]['iou_even']:.3f}", f"{rows[m]['iou_odd']:.3f} ± {error:.3f}"]
        lines.append([named(m), *cells, *(f"{rows[m][f'{c}_odd']:.3f}" for c in kept)])
    return table(["method", "IoU, choosing half", "IoU, other half", *kept.values()], lines)


def pairs_table(result: Result) -> str:
    """Paired differences over the pictures of the reporting half."""
    parts = result.about.get("pairs_component", [])
    lines = [
        [named(p["first"]), named(p["second"]), difference(p), signed(p["effect"], 2)]
        + ([difference(q) if (q["first"], q["second"]) == (p["first"], p["second"]) else ""] if q else [])
        for p, q in zip_longest(result.about["pairs"], parts)
    ]
    head = ["first", "second", "difference of IoU [95 %], Wilcoxon", "rank-biserial"]
    return table([*head, "with the component"] if parts else head, lines)


def better(found: list[dict[str, Any]]) -> str:
    """In how many layers the first is better and worse, Holm-corrected at 5 %, with the range of differences."""
    corrected = holm([pair["p"] for pair in found])
    sure = [pair["difference"] for pair, p in zip(found, corrected, strict=True) if p < 0.05]
    low, high = (signed(f(pair["difference"] for pair in found)) for f in (min, max))
    up, down = (sum(d > 0 for d in sure), sum(d < 0 for d in sure))
    return f"{up} better, {down} worse of {len(found)} ({low} … {high})"


def verdicts() -> str:
    """The paper's statements over four networks: best layer against best layer, and layer by layer."""
    results = {title: found for title, name in NETWORKS.items() if (found := read(f"seed-{name}"))}
    best = {
        "n = 2 − n = 1": (r"bounce:n=2:layer.*", r"bounce:n=1:layer.*"),
        "n = 3 − n = 1": (r"bounce:n=3:layer.*", r"bounce:n=1:layer.*"),
        "TokenRank − column sum": (r"tokenrank:layer.*", r"column_sum:.*"),
        "TokenRank − CLS row": (r"tokenrank:layer.*", r"cls_row:.*"),
    }
    even, heads = r".*heads=uniform", r".*heads=lambda2"
    each = {
        "n = 2 − n = 1": (r"bounce:n=2:" + even, r"bounce:n=1:" + even),
        "n = 3 − n = 1": (r"bounce:n=3:" + even, r"bounce:n=1:" + even),
        "TokenRank − column sum": ("tokenrank:" + even, "column_sum:" + even),
        "TokenRank − CLS row": ("tokenrank:" + even, "cls_row:" + even),
        "|λ2| − even heads, n = 1": (r"bounce:n=1:" + heads, r"bounce:n=1:" + even),
        "|λ2| − even heads, n = 2": (r"bounce:n=2:" + heads, r"bounce:n=2:" + even),
        "|λ2| − even heads, TokenRank": ("tokenrank:" + heads, "tokenrank:" + even),
    }
    lines = []
    for words, names in best.items():
        cells = [next(iter(r.pairs(*names, where="pairs")), None) for r in results.values()]
        lines.append([f"{words}, best layer of each", *(difference(p) if p else "" for p in cells)])
    for words, names in each.items():
        cells = [better(found) if (found := r.pairs(*names)) else "" for r in results.values()]
        lines.append([f"{words}, layer by layer".replace("|", "\\|"), *cells])
    return table(["", *results], lines)


SEEDLESS = {
    "arrival (`saliency`)": r"arrival:start=tokenrank:backward=yes:n=2:?.*",
    "arrival, from CLS rows": r"arrival:start=cls:backward=yes:n=2",
    "arrival, from column sums": r"arrival:start=column:backward=yes:n=2",
    "arrival, not spread along features": r"arrival:start=tokenrank:backward=yes:n=0",
    "TokenCut": r"tokencut:.*",
    "Deep Spectral": r"deep_spectral:.*",
    "LOST": r"lost:.*",
    "slow mode, side by TokenRank (all layers mixed where none is named)": r"saliency:how=slow:.*side=tokenrank",
    "CLS row": r"cls_row:.*",
    "TokenRank": r"tokenrank:layer=\d+:heads=.*",
    "absorption by the border": r"saliency:how=border",
    "column sum": r"column_sum:.*",
    "rollout": "rollout",
    "TokenRank, backward": r"tokenrank:.*direction=backward.*",
    "control: centre": "centre_prior",
    "control: border without attention": "lattice",
    "control: chance": "random",
}


def methods() -> str:
    """Methods that are told nothing over the networks; the best layer and kind of features on the choosing half."""
    results = {title: found for title, name in NETWORKS.items() if (found := read(f"arrival-{name}"))}
    lines = []
    for words, pattern in SEEDLESS.items():
        cells = []
        for result in results.values():
            fitting = [m for m in result.about["chosen"] if re.fullmatch(pattern, m)]
            best = max(fitting, key=lambda m: result.value(m, "iou_even"))
            error = 1.96 * result.about["standard_errors"][best]
            part = result.value(best, "iou_component_odd")
            cells.append(f"{result.value(best, 'iou_odd'):.3f} ± {error:.3f} / {part:.3f}{choice(best)}")
        lines.append([words, *cells])
    commands = "\n".join(f"- {command(result)}" for result in results.values())
    return f"{commands}\n\n{table(['', *results], lines)}"


def choice(method: str) -> str:
    """The layer and the features that were chosen: " (9, h)"."""
    found = re.findall(r":(?:layer|what)=(\w+)", method)
    return f" ({', '.join(found)})" if found else ""


def several_table(result: Result) -> str:
    rows, about = result.rows, result.about
    columns = ("iou", "iou_things", "iou_stuff", "iou_component")
    lines = [
        [named(m), f"{rows[m]['iou_even']:.3f}", *(f"{rows[m][f'{c}_odd']:.3f}" for c in columns)]
        for m in sorted(about["chosen"], key=lambda m: -rows[m]["iou_odd"])
    ]
    head = ["method", "IoU, choosing half", "IoU, other half", "things", "stuff", "+ component"]
    return table(head, lines)


def regions_table(result: Result) -> str:
    rows = result.rows
    head = {"covering_ods": "covering ODS", "covering_ois": "OIS", "covering_best": "best", "rand_ods": "PRI",
            "information_ods": "VoI ↓"}  # fmt: skip
    methods = sorted(result.about["chosen"], key=lambda m: -rows[m]["covering_ods_odd"])
    lines = [
        [f"`{m}`", f"{rows[m]['covering_ods_even']:.3f}", *(f"{rows[m][f'{c}_odd']:.3f}" for c in head)]
        for m in methods
    ]
    return table(["segmenter", "covering ODS, choosing half", *head.values()], lines)


def clustering_table(result: Result) -> str:
    rows = result.rows
    head = {"accuracy_strict": "accuracy", "miou": "mIoU", "miou_strict": "mIoU, strict"}
    methods = sorted(result.about["chosen"], key=lambda m: -rows[m]["miou_odd"])
    lines = [[f"`{m}`", f"{rows[m]['miou_even']:.3f}", *(f"{rows[m][f'{c}_odd']:.3f}" for c in head)] for m in methods]
    return table(["segmenter", "mIoU, choosing half", *head.values()], lines)


def masking_table(result: Result) -> str:
    """Areas under the accuracy in both orders, and TokenRank minus each method."""
    pairs = {(p["order"], p["second"]): p for p in result.about["pairs"]}
    lines = []
    for row in result.about["rows"]:
        cells = [f"`{row['method']}`"]
        for order in ("most", "least"):
            area, low, high = row[f"auc_{order}"]
            pair = pairs.get((order, row["method"]))
            cells += [f"{area:.1f} [{low:.1f}, {high:.1f}]", spread(pair) if pair else ""]
        lines.append(cells)
    head = ["AUC, most important first ↓", "TokenRank minus it", "AUC, least important first ↑", "TokenRank minus it"]
    return table(["method", *head], lines)


def spread(pair: dict[str, Any]) -> str:
    """+1.2 [+0.3, +2.0], p 1e-3, of points."""
    return "{} [{}, {}]".format(*(signed(value, 1) for value in pair["difference"])) + f", p {small(pair['p'])}"


TABLES: dict[str, Callable[[Result], str]] = {
    "layers": layers_table,
    "chosen": chosen_table,
    "pairs": pairs_table,
    "several": several_table,
    "regions": regions_table,
    "clustering": clustering_table,
    "masking": masking_table,
}


def made(mark: str) -> str:
    """What stands between a mark and its end: ``verdicts``, ``methods``, or ``KIND RESULT``."""
    if mark in ("verdicts", "methods"):
        return {"verdicts": verdicts, "methods": methods}[mark]()
    kind, name = mark.split()
    result = read(name)
    if result is None:
        raise SystemExit(f"no benchmarks/results/evidence-{name}.json for the mark {mark!r}; measure it first")
    return f"{command(result)}\n\n{TABLES[kind](result)}"


def main() -> None:
    parser(__doc__, out=False).parse_args()
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKS.sub(lambda m: f"<!-- {m[1]} -->\n{made(m[1])}\n<!-- / -->", text), encoding="utf-8")
    print(f"{len(MARKS.findall(text))} tables")


if __name__ == "__main__":
    main()
