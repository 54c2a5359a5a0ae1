"""Figure of the section "Guidance" of docs/diffusion.md: the same seeds under every arm.

    python -m benchmarks.guidance_figure WORK --cfg 3 --seeds 0-11 --out docs/figures/guidance.png

WORK holds the pictures that ``python -m benchmarks.guidance`` made. Seeds are the first ones: none was chosen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tokenrank.view.style import FULL, INK, SMALL

from .guidance_page import ARMS
from .guided.sampling import SIDE, Part
from .panels import Sheet

LEFT = 1.15  # inches for the names of arms
TITLE = 0.24


def stored(folder: Path, arm: str, cfg: float, seeds: range) -> np.ndarray:
    """Pictures (N, 32, 32, 3) of some seeds, from the parts in the one folder of pictures in WORK.

    Raises:
        FileNotFoundError: a seed that was not run.
    """
    found = {}
    for file in folder.glob(f"{arm}-{cfg:g}-*.npz"):
        begin, count = (int(word) for word in file.stem.split("-")[-2:])
        part = Part(arm, cfg, begin, count)
        wanted = [seed for seed in seeds if begin <= seed < begin + count]
        if wanted:
            pictures = np.load(folder / part.name)["pictures"]
            found |= {seed: pictures[seed - begin] for seed in wanted}
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        raise FileNotFoundError(f"no pictures of {arm} at {cfg:g} of seed {missing[0]} in {folder}; run more seeds")
    return np.stack([found[seed] for seed in seeds])


def draw(folder: Path, cfg: float, seeds: range, prompts: list[str]) -> Sheet:
    """A row an arm, a column a seed."""
    side = (FULL - LEFT - 0.05) / len(seeds)
    sheet = Sheet(TITLE + side * len(ARMS) + 0.05)
    for row, (arm, name) in enumerate(ARMS.items()):
        top = TITLE + row * side
        sheet.words(0.05, top + 0.35 * side, name.strip("*").replace(", ", ",\n"), color=INK)
        for column, pixels in enumerate(stored(folder, arm, cfg, seeds)):
            axes = sheet.axes(LEFT + column * side, top, 0.96 * side, 0.96 * side)
            axes.imshow(pixels, interpolation="nearest", extent=(0, SIDE, SIDE, 0))
            axes.set_axis_off()
            if row == 0 and prompts:
                words = prompts[seeds[column] % len(prompts)].removeprefix("a ").split()[-1]
                axes.set_title(words, fontsize=SMALL - 1, color=INK, pad=2)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="the folder of pictures: WORK/DIGEST")
    parser.add_argument("--data", type=Path, help="folder of Tiny-ImageNet's shards, for the names of classes")
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--seeds", default="0-11")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/guidance.png"))
    given = parser.parse_args()
    first, last = (int(word) for word in given.seeds.split("-"))
    prompts: list[str] = []
    if given.data:
        from .guidance import prompts as prompts_of

        prompts = list(prompts_of(given.data))
    sheet = draw(given.work, given.cfg, range(first, last + 1), prompts)
    sheet.figure.savefig(given.out, dpi=200)


if __name__ == "__main__":
    main()
