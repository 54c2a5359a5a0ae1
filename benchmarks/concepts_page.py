"""Tables of the section "Concept maps" of docs/diffusion.md, from results/concepts.json.

    python -m benchmarks.concepts_page

Tables of other sections are left as they are. The figures are drawn by ``benchmarks.concepts_figure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from .concept.variants import EVERY, Variant
from .filled import SPACE, Tables, refill, result, source, table

NAMES = {
    "random": "*chance: maps of noise*",
    "raw_column": "raw column",
    "expert_layer": "expert layer (Seg4Diff)",
    "daam": "DAAM",
    "concept_attention": "ConceptAttention",
    "iseg": "iSeg",
    "automatic_heads": "automatic heads (GoCA-like)",
    "walked_ncut": "NCut of walks",
    "bounce n = 1": "**bounce, n = 1**",
    "bounce n = 2": "**bounce, n = 2**",
    "bounce n = 3": "**bounce, n = 3**",
    "bounce n = 10": "**bounce, n = 10**",
    "tokenrank": "**TokenRank of the word**",
    "absorption": "**absorption**",
}
OURS = ("bounce", "tokenrank", "absorption")
MEAN = "mean"
SURE = 0.05
PADDINGS = {"censor": "censored", "drop": "dropped", "keep": "kept"}


@cache
def found() -> dict[str, Any]:
    """The file, and its rows by variant and noise."""
    made = result("concepts")
    made["by"] = {(row["variant"], row["noise"]): row for row in made["rows"]}
    return made


def methods() -> str:
    """Every method at what suited it best on the development half, on the other half."""
    rows = []
    for row in found()["methods"]:
        variant = Variant.read(row["variant"])
        rows.append([
            name_of(row["method"]), told(variant), "all" if row["noise"] == MEAN else row["noise"],
            f"{row['ap']:.3f} ({row['ap_low']:.3f} … {row['ap_high']:.3f})", f"{row['rank_ap']:.3f}",
            f"{row['iou']:.3f}", f"{row['acc']:.3f}", f"{row['acc_ratio']:.3f}", f"{row['pointing']:.3f}",
        ])  # fmt: skip
    head = ["method", "chosen", "noise", "AP", "of the word alone", "IoU", "acc", "acc/(2 − acc)", "pointing"]
    return f"{table(head, rows, 2)}\n\n{source(found())}"


def tests() -> str:
    """AP of the row's method less that of the column's, in points of a hundredth; bold where Holm's p is small."""
    order = [row["method"] for row in found()["methods"]]
    pairs = {(row["first"], row["second"]): row for row in found()["tests"]}
    rows = []
    for place, one in enumerate(order[:-1], 1):
        cells = ["" for _ in range(place - 1)]
        for other in order[place:]:
            cells.append(points(pairs[one, other]))
        rows.append([f"{place} {name_of(one)}", *cells])
    return table(["", *(f"{place}" for place in range(2, len(order) + 1))], rows, 1)


def heads() -> str:
    """|λ2| against equal heads."""
    rows = [
        [name_of(row["second"].removesuffix(", uniform")), points(row), f"{row['p']:.2g}", f"{row['holm']:.2g}"]
        for row in found()["heads"]
    ]
    return table(["", "λ2 less uniform", "p", "Holm"], rows, 1)


def layers() -> str:
    """AP of every layer: walks by bounces and direction, and what others take of a layer."""
    noise = found()["walk"]["noise"]
    walk = walk_variant()
    rows = []
    for layer in layer_names():
        cells = []
        for head in ("uniform", "lambda2"):
            for direction in ("forward", "backward"):
                for n in (1, 2, 3):
                    cells.append(cell(walked("bounce", layer, head, direction=direction, n=n), noise))
                cells.append(cell(walked("tokenrank", layer, head, direction=direction, alpha=0.99), noise))
        rows.append([layer_words(layer), *cells])
    names = [f"{d}, {n}" for d in ("forward", "backward") for n in ("1", "2", "3", "TokenRank")]
    both = [[row[0], *row[1:9]] for row in rows], [[row[0], *row[9:]] for row in rows]
    titles = ("Heads alike:", "Heads by |λ2|:")
    made = "\n\n".join(
        f"{title}\n\n{table(['layer', *names], part, 1)}" for title, part in zip(titles, both, strict=True)
    )
    return f"Noise {noise}, padding {PADDINGS[walk.settings['padding']]}, no rivalry of the words.\n\n{made}"


def other_layers() -> str:
    """AP of every layer by the methods that take one, their options as chosen."""
    noise = found()["walk"]["noise"]
    by = {row["method"]: Variant.read(row["variant"]) for row in found()["methods"]}
    names = [
        name for name in ("raw_column", "expert_layer", "concept_attention", "automatic_heads", "iseg") if name in by
    ]
    rows = []
    for layer in layer_names():
        cells = [cell(Variant(by[name].method, layer, by[name].options), noise) for name in names]
        absorbing = Variant("absorption", layer, by["absorption"].options)
        rows.append([layer_words(layer), *cells, cell(absorbing, noise)])
    return table(["layer", *(name_of(name) for name in names), name_of("absorption")], rows, 1)


def padding() -> str:
    """Padding and special tokens in three ways: the chosen walk, and the mean over all layers."""
    noise, walk, rows = found()["walk"]["noise"], walk_variant(), []
    for how, words in PADDINGS.items():
        cells = []
        for layer in layer_names():
            options = tuple((key, how if key == "padding" else value) for key, value in walk.options)
            cells.append(cell(Variant(walk.method, layer, options), noise))
        rows.append([words, *cells])
    mass = found()["padding_mass"]
    shares = [f"{mass[layer]:.0%}" if layer in mass else "" for layer in layer_names()]
    rows.append(["*their share of the patches' attention*", *shares])
    return table(["", *(layer_words(layer) for layer in layer_names())], rows, 1)


def noises() -> str:
    """AP by share of noise, everything else as chosen."""
    levels = [f"{level}" for level in found()["levels"]]
    rows = []
    for row in found()["methods"]:
        variant = Variant.read(row["variant"])
        cells = [cell(variant, level) for level in [*levels, MEAN]]
        if row["method"] != "random" and any(cells[:-1]):
            rows.append([name_of(row["method"]), *cells])
    return table(["noise", *levels, "all"], rows, 1)


def rivals() -> str:
    """Maps as they are against shares of the words: the best of either on the development half."""
    rows = []
    for name, best in found()["rivals"].items():
        rows.append([name_of(name), f"{best['alone']['ap']:.3f}", f"{best['softmax']['ap']:.3f}", points(best["test"])])
    return table(["", "each map alone", "shares of the words", "difference"], rows, 1)


def default() -> str:
    """The best walks over all layers and shares of noise, and where the others are."""
    rows = [row for row in found()["defaults"] if Variant.read(row["variant"]).settings.get("cut") is None]
    best: dict[str, list[str]] = {}
    for row in rows:
        variant = Variant.read(row["variant"])
        kind = " ".join(filter(None, [variant.method, variant.settings.get("direction")]))
        best.setdefault(kind, [told(variant), f"{row['development_ap']:.3f}", f"{row['ap']:.3f}"])
    return table(["the best of its kind", "AP, development half", "AP, the other half"], [*best.values()], 1)


def swapped() -> str:
    """What becomes of the maps when the words change places in the prompt."""
    made = found()["swapped"]
    return (
        f"With the words the other way round in the prompt, same picture and noise, a word's map correlates at "
        f"{made['same']:.3f} with its own of before and at {made['other']:.3f} with the other word's; AP is "
        f"{made['ap_turned']:.3f} after and {made['ap']:.3f} before. Against the other word's patches it is "
        f"{made['ap_wrong']:.3f}. In {made['apart']:.0%} of the mosaics the first word's map less the second's "
        "is larger on the first's patches than on the second's (chance: 50 %)."
    )


def name_of(method: str) -> str:
    """As the tables have it."""
    return NAMES.get(method, method)


def told(variant: Variant) -> str:
    """Layer and options in few words."""
    said = variant.settings
    words = [] if variant.method == "random" else [layer_words(variant.layer)]
    words += [variant.method] if variant.method in ("tokenrank", "absorption") else []
    words += [f"n = {said['n']}"] if "n" in said else []
    words += [said[key] for key in ("direction",) if key in said]
    words += [f"{mark} {said[key]}" for key, mark in MARKED.items() if key in said]
    words += ["turned"] if said.get("turned") == "True" else []
    words += ["rescaled"] if said.get("rescale") == "True" else []
    words += ["λ2"] if said.get("heads") == "lambda2" else []
    words += [f"padding {PADDINGS[said['padding']]}"] if "padding" in said else []
    words += ["shares"] if said.get("cut") == "softmax" else []
    return ", ".join(words)


MARKED = {"alpha": "α =", "iterations": "iterations", "entropy": "λ =", "k": "k =", "threshold": "cut below"}


def layer_words(layer: str) -> str:
    return "all layers" if layer == EVERY else layer.replace(" ", SPACE)


def walk_variant() -> Variant:
    """The walk without rivalry that was best on the development half."""
    return Variant.read(found()["walk"]["variant"])


def walked(method: str, layer: str, head: str, **options: Any) -> Variant:
    return Variant.of(method, layer, heads=head, padding=walk_variant().settings["padding"], **options)


def layer_names() -> list[str]:
    """Those of the network in order, then all together."""
    seen = dict.fromkeys(Variant.read(row["variant"]).layer for row in found()["rows"])
    return [*(name for name in seen if name not in (EVERY, "none")), EVERY]


def cell(variant: Variant, noise: str) -> str:
    row = found()["by"].get((f"{variant}", noise))
    return "" if row is None else f"{row['ap']:.3f}"


def points(pair: Mapping[str, float]) -> str:
    """A difference in points of a hundredth; bold where Holm's p is below 0.05."""
    words = f"{100 * pair['difference']:+.1f}".replace("-", "−")
    return f"**{words}**" if pair["holm"] < SURE else words


TABLES: Tables = {
    "concept methods": methods,
    "concept tests": tests,
    "concept heads": heads,
    "concept layers": layers,
    "concept layers of others": other_layers,
    "concept padding": padding,
    "concept noise": noises,
    "concept rivals": rivals,
    "concept defaults": default,
    "concept swapped": swapped,
}


def main() -> None:
    refill("diffusion.md", TABLES)


if __name__ == "__main__":
    main()
