"""Which size a network wants: IoU from a seed and of TokenRank, layer by layer, on development pictures of ECSSD.

    python benchmarks/sizes.py DATA [--model bundled] [--sizes 128,160,192,224] [--images 40]

DATA is the folder of ECSSD; its first pictures are taken. Patches only, heads alike, the walk starts from a patch on
the object, maps are enlarged bilinearly and cut at their mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from facts import facts, parser, save
from horizons import ious

import tokenrank as tr
from tokenrank.evaluate.datasets import open_dataset
from tokenrank.evaluate.protocols.saliency import seed_of

BOUNCES = (1, 2, 4, 8)


def scores(model: tr.Model, picture: object, mask: np.ndarray, size: int) -> np.ndarray:
    """IoU of n = 1, 2, 4, 8 and of TokenRank, (layers, 5)."""
    seen = tr.observe(picture, model, size=size)  # type: ignore[arg-type]
    row, column = seed_of(mask, *seen.grid)
    found = []
    for layer in seen.layers:
        chain = seen.chain(layer, "uniform")
        walks = chain.bounce(row * seen.grid[1] + column, max(BOUNCES), path=True).values[list(BOUNCES)]
        maps = torch.cat([walks, chain.tokenrank().values[None].to(walks)])
        found.append(ious(maps, mask, seen.grid).numpy())
    return np.array(found)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--model", default="bundled")
    options.add_argument("--sizes", default="128,160,192,224", help="long sides in pixels, commas between")
    options.add_argument("--images", type=int, default=40)
    given = options.parse_args()
    model, dataset = tr.load(given.model), open_dataset("ecssd", given.data)
    samples = [dataset.read(key) for key in dataset.keys[: given.images]]
    rows = []
    for size in map(int, given.sizes.split(",")):
        mean = np.mean([scores(model, sample.image, sample.mask, size) for sample in samples], axis=0)
        print(f"\n{size} px, {len(samples)} pictures\n\n| layer | n = 1 | n = 2 | n = 4 | n = 8 | TokenRank |")
        print("|---" * 6 + "|")
        for layer, values in enumerate(mean):
            print(f"| {layer} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
            rows.append({"size": size, "layer": layer, "iou": [round(float(value), 4) for value in values]})
    hidden = {given.data: "DATA", given.model: "MODEL" if Path(given.model).exists() else given.model}
    save(given.out, {**facts(hidden=hidden), "model": given.model, "images": len(samples)}, rows)


if __name__ == "__main__":
    main()
