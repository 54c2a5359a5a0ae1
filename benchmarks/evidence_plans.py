"""What benchmarks/evidence.py measures: for every plan its data, protocol, methods and paired comparisons.

A comparison names two methods, or ``@PATTERN``: the best on the images at even places of all methods that match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import tokenrank as tr

HEADS = ("uniform", "lambda2")
BOUNCES = (1, 2, 3, 4, 8)
RATIOS = tuple(k / 10 for k in range(10))
CONTROLS = ("centre_prior", "lattice", "random")

Layers = Sequence[int]
Pairs = list[tuple[str, str]]


def no_pairs(layers: Layers) -> Pairs:
    """No comparison."""
    return []


@dataclass(frozen=True)
class Plan:
    """One kind of run.

    Attributes:
        data: folder inside DATA, and ``kind``, its format.
        protocol: by name, with ``options``.
        methods: layers → names of methods.
        pairs: layers → what is compared on the images at odd places.
        everywhere: layers → what is compared on all images, where nothing was chosen.
    """

    data: str
    kind: str
    protocol: str
    methods: Callable[[Layers], list[str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    pairs: Callable[[Layers], Pairs] = no_pairs
    everywhere: Callable[[Layers], Pairs] = no_pairs


def register_methods() -> None:
    """Make the controls of this benchmark known by name, beside the methods of the package."""
    tr.baselines.register("seed_prior", seed_prior, needs=("seed",))


def seed_prior(source: tr.Observation, *, start: Any = None, sigma: float = 0.25) -> tr.TokenMap:
    """A Gaussian around the seed, of the width of ``centre_prior``: what the seed's place gives without attention."""
    rows, columns = source.grid
    place = source.picture_layout.token_at(start)
    y, x = torch.meshgrid(torch.arange(rows).double() / rows, torch.arange(columns).double() / columns, indexing="ij")
    row, column = divmod(place, columns)
    away = (y - row / rows) ** 2 + (x - column / columns) ** 2
    return source.map(torch.exp(-away / (2 * sigma**2)).flatten())


def refined_methods(layers: Layers) -> list[str]:
    names = [f"bounce:n={n}:layer={layer}:heads=uniform" for layer in layers for n in (1, 2, 3, "halflife")]
    names += [f"tokenrank:layer={layer}:heads=uniform" for layer in layers]
    return [*names, "seed_prior", *CONTROLS]


def seed_methods(layers: Layers) -> list[str]:
    names = [f"bounce:n={n}:layer={layer}:heads={h}" for layer in layers for h in HEADS for n in BOUNCES]
    names += [f"bounce:n={n}:direction=backward:layer={layer}:heads=uniform" for layer in layers for n in (1, 2)]
    single = ("column_sum", "tokenrank", "cls_row")
    names += [f"{name}:layer={layer}:heads={h}" for layer in layers for h in HEADS for name in single]
    names += [f"tokenrank:direction=backward:layer={layer}:heads=uniform" for layer in layers]
    return [*names, *CONTROLS]


def refined_pairs(layers: Layers) -> Pairs:
    return [(rf"@bounce:n={n}:layer=.*", "seed_prior") for n in (1, 2, 3)]


def refined_everywhere(layers: Layers) -> Pairs:
    bounces = [(n, f"layer={layer}:heads=uniform") for n in (2, 3) for layer in layers]
    return [(f"bounce:n={n}:{at}", f"bounce:n=1:{at}") for n, at in bounces]


def seed_pairs(layers: Layers) -> Pairs:
    best = {n: rf"@bounce:n={n}:layer=.*" for n in BOUNCES}
    return [
        *((best[n], best[1]) for n in BOUNCES[1:]),
        (best[2], "centre_prior"),
        (r"@tokenrank:layer=.*", r"@column_sum:.*"),
        (r"@tokenrank:layer=.*", r"@cls_row:.*"),
        (r"@tokenrank:layer=.*", "centre_prior"),
        (r"@bounce:n=1:direction=backward:.*", best[1]),
        (r"@bounce:n=2:direction=backward:.*", best[2]),
    ]


def seed_everywhere(layers: Layers) -> Pairs:
    pairs = []
    for layer in layers:
        at = f"layer={layer}:heads="
        pairs += [(f"bounce:n={n}:{at}uniform", f"bounce:n=1:{at}uniform") for n in BOUNCES[1:]]
        pairs += [(f"tokenrank:{at}uniform", f"{name}:{at}uniform") for name in ("column_sum", "cls_row")]
        weighed = ("bounce:n=1", "bounce:n=2", "tokenrank", "column_sum")
        pairs += [(f"{name}:{at}lambda2", f"{name}:{at}uniform") for name in weighed]
    return pairs


WHATS = ("k", "q", "v", "h")
GRAPHS = ("tokencut", "lost", "deep_spectral")
STARTS = ("tokenrank", "cls", "column")
ARRIVAL = "arrival:start=tokenrank:backward=yes"


def saliency_methods(layers: Layers) -> list[str]:
    """Methods that are told nothing; what reads one layer, in every layer, and graphs of every kind of features."""
    first_order = (
        "tokenrank:heads=uniform", "tokenrank:heads=lambda2", "tokenrank:direction=backward:heads=uniform",
        "column_sum:heads=uniform",
    )  # fmt: skip
    each = [name.replace(":", f":layer={layer}:", 1) for layer in layers for name in first_order]
    each += [f"cls_row:layer={layer}" for layer in layers]
    each += [f"{graph}:layer={layer}:what={what}" for graph in GRAPHS for what in WHATS for layer in layers]
    return [*each, "rollout", "dino_mass", *CONTROLS]


def arrival_methods(layers: Layers) -> list[str]:
    """Our own methods that are told nothing, and arrival with its parts taken away one by one."""
    names = [f"arrival:start={s}:backward={b}:n={n}" for s in STARTS for b in ("yes", "no") for n in (0, 2)]
    names += [f"{ARRIVAL}:n={n}" for n in (1, 3)] + [f"{ARRIVAL}:n=2:heads=lambda2", "saliency"]
    names += ["saliency:how=border", "saliency:how=border:heads=uniform", "saliency:how=tokenrank"]
    names += [f"saliency:how=slow:side={side}" for side in ("tokenrank", "border", "seed")]
    return [*names, *(f"saliency:how=slow:layer={layer}:side=tokenrank" for layer in layers)]


def class_methods(layers: Layers) -> list[str]:
    """Methods that explain a class, for networks with a classifier, and the slow ``attention_flow``."""
    return [
        "attention_flow", "grad_cam", "pytorch_grad_cam", "generic_relevance", "transformer_attribution", "partial_lrp",
    ]  # fmt: skip


def saliency_pairs(layers: Layers) -> Pairs:
    first, cut = r"@tokenrank:layer=.*", r"@tokencut:.*"
    return [
        *((first, other) for other in (r"@column_sum:.*", r"@cls_row:.*", "rollout", cut, "centre_prior")),
        (r"@cls_row:.*", cut),
    ]


def arrival_pairs(layers: Layers) -> Pairs:
    arrival, border = f"{ARRIVAL}:n=2", "saliency:how=border"
    slow, cut = r"@saliency:how=slow:.*", r"@tokencut:.*"
    others = ["arrival:start=tokenrank:backward=no:n=2", *(f"{ARRIVAL}:n={n}" for n in (0, 1, 3))]
    others += [f"arrival:start={start}:backward=yes:n=2" for start in STARTS[1:]]
    return [
        *((arrival, other) for other in (cut, r"@lost:.*", r"@deep_spectral:.*", *others)),
        *((arrival, other) for other in (slow, r"@tokenrank:layer.*", r"@cls_row:.*", "centre_prior", border)),
        (f"{ARRIVAL}:n=2:heads=lambda2", arrival),
        ("arrival:start=cls:backward=yes:n=2", cut),
        (slow, cut),
        *((border, other) for other in ("saliency:how=border:heads=uniform", "lattice", "centre_prior", cut)),
    ]


def several_methods(layers: Layers) -> list[str]:
    names = [f"bounce:n={n}:layer={layer}:heads={h}" for layer in layers for h in HEADS for n in (1, 2, 3)]
    names += [f"bounce:n={n}:direction=backward:layer={layer}:heads=uniform" for layer in layers for n in (1, 2)]
    return [*names, "seed_prior", "random"]


def several_pairs(layers: Layers) -> Pairs:
    best = {n: rf"@bounce:n={n}:layer=.*" for n in (1, 2, 3)}
    backward = r"@bounce:n=1:direction=backward:.*"
    pairs = [(best[2], best[1]), (best[3], best[1]), (backward, best[1])]
    return [*pairs, *((name, "seed_prior") for name in (best[1], best[2], backward))]


TAUS = ("0.15", "0.3", "0.6", "1.0")
GRIDS = ("uniform", "tokenrank-cells", "tokenrank-nms")


def region_methods(layers: Layers) -> list[str]:
    """Merging at fixed distances, as DiffSeg has it: a distance for every number of segments takes seconds."""
    names = []
    for layer in layers:
        at = f"layer={layer}:heads=uniform"
        names += [f"merge:{at}:tau={tau}:grid={grid}" for tau in TAUS for grid in GRIDS]
        names += [f"merge:{at}:tau={tau}:n=2" for tau in TAUS]
        names += [f"metastable:{at}", f"kmeans:layer={layer}"]
    return [*names, "blocks"]


def cluster_methods(layers: Layers) -> list[str]:
    return [f"{name}:k=6" if "tau=" not in name else name for name in region_methods(layers)]


def region_pairs(layers: Layers) -> Pairs:
    grids = {grid: rf"@merge:.*:grid={grid}" for grid in GRIDS}
    pairs = [(grids[grid], grids["uniform"]) for grid in GRIDS[1:]]
    pairs += [(r"@merge:.*:n=2", grids["uniform"]), (r"@metastable.*", r"@kmeans.*"), (r"@kmeans.*", r"@blocks.*")]
    return [*pairs, (r"@merge:.*", r"@kmeans.*"), (r"@merge:.*", r"@blocks.*")]


def region_everywhere(layers: Layers) -> Pairs:
    """Grids at the same layer and distance, where nothing is chosen."""
    kinds = [f"merge:layer={layer}:heads=uniform:tau={tau}:grid=" for layer in layers for tau in TAUS]
    return [(f"{kind}{grid}", f"{kind}uniform") for kind in kinds for grid in GRIDS[1:]]


def masking_methods(layers: Layers) -> list[str]:
    names = []
    for layer in layers:
        names += [f"{name}:layer={layer}:heads=uniform" for name in ("tokenrank", "column_sum", "cls_row")]
    return [*names, "rollout", "saliency", "grad_cam", "generic_relevance", "transformer_attribution", "random"]


def _masking(how: str) -> Plan:
    options = {"how": (how,), "ratios": RATIOS}
    return Plan("tiny-imagenet", "parquet", "masking", masking_methods, options)


_SEED = {"methods": seed_methods, "pairs": seed_pairs, "everywhere": seed_everywhere}
PLANS = {
    "seed": Plan("ecssd", "ecssd", "seed", options={"posts": ("component",)}, **_SEED),
    "refined": Plan(
        "ecssd",
        "ecssd",
        "seed",
        refined_methods,
        {"posts": ("component", "refined")},
        refined_pairs,
        refined_everywhere,
    ),
    "saliency": Plan("ecssd", "ecssd", "saliency", saliency_methods, {"posts": ("component",)}, saliency_pairs),
    "arrival": Plan("ecssd", "ecssd", "saliency", arrival_methods, {"posts": ("component",)}, arrival_pairs),
    "classes": Plan("ecssd", "ecssd", "saliency", class_methods),
    "several": Plan("coco", "coco-panoptic", "several", several_methods, pairs=several_pairs),
    "regions": Plan("bsds500", "bsds500", "regions", region_methods, pairs=region_pairs, everywhere=region_everywhere),
    "clustering": Plan(
        "coco", "coco-panoptic", "clustering", cluster_methods, {"classes": 200}, region_pairs, region_everywhere
    ),
    **{f"masking-{how}": _masking(how) for how in ("keys", "remove", "pixels")},
}
