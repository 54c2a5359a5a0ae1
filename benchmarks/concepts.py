"""Where is a word? Maps of words on held-out mosaics of the trained FLUX, by every method, layer and share of noise.

    python -m benchmarks.concepts MODEL DATA --out benchmarks/results/concepts.json

MODEL is a folder of ``training.text_to_image.export``, DATA the one that it was trained on. A mosaic is two pictures
in one ("a X and a Y"), so that the patches of each word are known. Everything that can be chosen is chosen on one half
of the mosaics and reported on the other; the halves share no picture. Parts that are done are kept in a folder beside
OUT, from which a second start goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .concept.mosaics import draw
from .concept.parts import Parts, gathered
from .concept.stages import Bench, Scores, closer, padding_mass, swept, turned
from .concept.summary import MEAN, Measured, between_all, chosen, defaults, heads_compared, rivals_compared
from .concept.variants import Variant
from .facts import facts, parser, save

LEVELS = tuple(round(k / 10, 1) for k in range(1, 10))
TOLD = ("ap", "iou", "pointing")  # of every row; the chosen methods have all figures


def measure(bench: Bench, parts: Parts, levels: Sequence[float] = LEVELS) -> tuple[dict[str, Any], Measured]:
    """Everything: (figures, scores)."""
    began, development = time.monotonic(), bench.mosaics.development.numpy()

    def over(name: str, stage: Callable[[Sequence[int]], Scores]) -> Scores:
        made = [(b, parts.scores(f"{name}-{n}", lambda b=b: stage(b))) for n, b in enumerate(bench.batches)]
        return gathered(len(bench.mosaics), iter(made))

    sweep = over("sweep", lambda batch: swept(bench, batch, levels))
    alone = [key for key in sweep if key[0].method == "bounce" and key[1] != MEAN and "cut" not in key[0].settings]
    best = Measured(sweep, development).best(alone)
    more = over(f"closer-{best[1]}", lambda batch: closer(bench, batch, float(best[1])))
    measured = Measured({**sweep, **more}, development)
    rows = chosen(measured)
    swap = [turned(bench, b, best) for b in bench.batches]
    reported = np.concatenate([~development[b] for b in bench.batches])
    swapped = {name: float(np.concatenate([s[name] for s in swap])[reported].mean()) for name in swap[0]}
    figures = {
        "mosaics": len(bench.mosaics),
        "reported": int((~development).sum()),
        "walk": {"variant": str(best[0]), "noise": best[1]},
        "methods": rows,
        "tests": between_all(measured, rows),
        "heads": heads_compared(measured),
        "rivals": rivals_compared(measured),
        "defaults": defaults(measured),
        "padding_mass": padding_mass(bench, float(best[1])),
        "swapped": swapped,
        "seconds": round(time.monotonic() - began, 1),
    }
    return figures, measured


def rows_of(measured: Measured, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Variants on both halves: what was chosen, at every noise; walks with each map alone, and methods of others, at
    every noise; at the walk's noise paddings, heads and shares, too."""
    walk, taken = Variant.read(figures["walk"]["variant"]), {row["variant"] for row in figures["methods"]}
    noises = (figures["walk"]["noise"], MEAN)
    kept = []
    for variant, noise in measured.scores:
        said = variant.settings
        plain, alike = "cut" not in said, said.get("heads", "uniform") == "uniform"
        same = said.get("padding", walk.settings["padding"]) == walk.settings["padding"]
        known = variant.method not in ("iseg", "walked_ncut")
        here = noise == noises[0] and (plain or alike)
        wanted = here or (plain and alike and same) if known else noise in noises and _as_chosen(variant, taken)
        if wanted or str(variant) in taken:
            kept.append((variant, noise))
    return [
        {
            "variant": str(key[0]),
            "noise": key[1],
            "development_ap": round(measured.figures(key, True)["ap"], 4),
            **{name: round(value, 4) for name, value in measured.figures(key, False).items() if name in TOLD},
        }
        for key in kept
    ]


def _as_chosen(variant: Variant, taken: set[str]) -> bool:
    """Whether it is a chosen variant but for the layer."""
    return any((other.method, other.options) == (variant.method, variant.options) for other in map(Variant.read, taken))


def digest(folder: Path) -> str:
    """SHA-256 of the denoiser's weights."""
    found = hashlib.sha256()
    for file in sorted((folder / "transformer").glob("*.safetensors")):
        found.update(file.read_bytes())
    return found.hexdigest()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("model", type=Path)
    made.add_argument("data", type=Path)
    made.add_argument("--count", type=int, default=500, help="mosaics, half of them for development")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--keep-parts", action="store_true")
    given = made.parse_args()
    from diffusers import FluxPipeline

    torch.set_num_threads(1)
    pipe = FluxPipeline.from_pretrained(given.model)
    bench = Bench(pipe, draw(given.data, given.count, given.seed))
    settings = {"weights": digest(given.model), "count": given.count, "seed": given.seed, "levels": LEVELS}
    out = given.out or Path("concepts.json")
    parts = Parts(out.with_suffix(".parts"), json.loads(json.dumps(settings)))
    figures, measured = measure(bench, parts)
    about = facts("diffusers", "transformers", hidden={given.model: "MODEL", given.data: "DATA"})
    save(out, {**about, **settings, **figures}, rows_of(measured, figures))
    if not given.keep_parts:
        shutil.rmtree(parts.folder)
    for row in figures["methods"]:
        print(f"{row['method']:18} {row['ap']:.3f} ({row['ap_low']:.3f} … {row['ap_high']:.3f})  {row['variant']}")


if __name__ == "__main__":
    main()
