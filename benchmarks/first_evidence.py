"""First evidence on ECSSD: does indirect attention find the object better than direct attention?

    python benchmarks/first_evidence.py DATA [--images 500] [--size 128] [--out FILE]

DATA holds ``images/*.jpg`` and ``masks/*.png``. For every layer, with uniform and λ2-weighted
heads: the map of n bounces from a seed on the object (the patch of the object nearest to its
centre of mass), the column sum, the CLS row and TokenRank are enlarged to the picture
(bilinear), thresholded at their mean, and compared with the mask. Patches only: CLS and
registers are dropped from the chain and the rows renormalised, but for the CLS row. The figure
is the mean over pictures of the intersection over union of the foreground.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ecssd import iou, mask_of, pictures, seed_of
from rich.progress import track

import tokenrank as tr
from tokenrank.models import load

BOUNCES = (1, 2, 3, 4, 8)
METHODS = (*(f"n = {n}" for n in BOUNCES), "column sum", "CLS row", "TokenRank", "TokenRank backward")
WEIGHTINGS = ("uniform", "lambda2")


def maps_of(full: tr.AttentionChain, w: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Method → patch values for one layer (heads, N, N) of one picture, heads weighted by w."""
    chain = full.restrict("image").aggregate(w)
    path = chain.bounce(seed, max(BOUNCES), path=True).values
    image = full.layout.range("image")
    cls = (w / w.sum()) @ full.bounce("cls").values[:, image.start : image.stop]
    return {
        **{f"n = {n}": path[n] for n in BOUNCES},
        "column sum": chain.operator.column_sums(),
        "CLS row": cls,
        "TokenRank": chain.tokenrank().values,
        "TokenRank backward": chain.tokenrank(direction="backward").values,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", type=int, default=128, help="long side in pixels")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    files = pictures(args.data, args.images)
    model = load(args.model, size=args.size)
    scores: dict[tuple[str, str, str], list[float]] = {}
    start = time.monotonic()
    for file in track(files, description="pictures"):
        mask = mask_of(file)
        inputs = model.prepare(file)
        with tr.capture(model.module) as trace:
            model.forward(inputs)
        for name in trace.names:
            full = trace[name][0]
            grid = full.layout.grids["image"]
            weights = {"uniform": torch.ones(full.batch), "lambda2": full.restrict("image").lambda2().values}
            for weighting, w in weights.items():
                for method, values in maps_of(full, w, seed_of(mask, *grid)).items():
                    scores.setdefault((name, weighting, method), []).append(iou(values, mask, grid))
    layers = list(dict.fromkeys(layer for layer, _, _ in scores))
    print(f"\nMean foreground IoU, {len(files)} pictures of ECSSD, {args.size} px, model {args.model}\n")
    print("| layer | heads | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 2) + "|")
    for number, layer in enumerate(layers):
        for weighting in WEIGHTINGS:
            row = [np.mean(scores[layer, weighting, method]) for method in METHODS]
            best = max(row)
            cells = (f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in row)
            print(f"| {number} | {'λ2' if weighting == 'lambda2' else weighting} | " + " | ".join(cells) + " |")
    if args.out:
        rows = [
            {
                "layer": layer,
                "heads": weighting,
                "method": method,
                "iou": round(float(np.mean(values)), 4),
                "standard_error": round(float(np.std(values) / len(values) ** 0.5), 4),
            }
            for (layer, weighting, method), values in scores.items()
        ]
        facts = {
            "command": " ".join(["python", *("DATA" if a == str(args.data) else a for a in sys.argv)]),
            "pictures": len(files),
            "size": args.size,
            "model": args.model,
            "seconds": round(time.monotonic() - start),
            "torch": torch.__version__,
            "tokenrank": tr.__version__,
            "machine": platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "rows": rows,
        }
        args.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
