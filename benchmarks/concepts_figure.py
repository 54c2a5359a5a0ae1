"""Figures of the section "Concept maps" of docs/diffusion.md.

python -m benchmarks.concepts_figure maps MODEL DATA    # words × layers × bounces over mosaics
python -m benchmarks.concepts_figure noise              # AP against noise, from results/concepts.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.view.style import FULL, SMALL, paper_style

from .concept.mosaics import Mosaics, draw
from .concept.variants import EVERY, Variant
from .concepts_page import NAMES, OURS, found, layer_names, layer_words, walk_variant

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
BOUNCES = (1, 2, 3)
SHOWN = 2  # mosaics
LARGE = 96  # pixels of a picture's side in the figure
COLOURS = ("#6a2c94", "#e08214", "#1b7837", "#2b6cb0", "#b2182b", "#8c6d31", "#d6639a", "#5a5a66")


def maps(model: Path, data: Path) -> Figure:
    """Mosaics of the reported half; of each word a row for every n, a column for every layer."""
    pipe, mosaics = tr.load(model), draw(data, found()["mosaics"], found()["seed"])
    rows, columns = SHOWN * 2 * len(BOUNCES), len(layer_names()) + 1
    figure = Figure(figsize=(FULL, FULL * rows / columns), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, layer in zip(panels[0][1:], layer_names(), strict=True):
        axes.set_title(layer_words(layer), fontsize=SMALL)
    each = 2 * len(BOUNCES)
    for number, place in enumerate(halves(mosaics)):
        _mosaic(panels[number * each : (number + 1) * each], pipe, mosaics, place)
    return figure


def _mosaic(panels: Any, pipe: Any, mosaics: Mosaics, place: int) -> None:
    """The rows of one mosaic."""
    walk, noise = walk_variant().settings, float(found()["walk"]["noise"])
    picture, words = picture_of(mosaics, place), mosaics.words[place]
    seen = tr.observe(picture, model=pipe, prompt=mosaics.prompt(place), noise=noise, seed=place)
    shown = picture.resize((LARGE, LARGE), PIL.Image.Resampling.BICUBIC)
    panels[0][0].imshow(shown)
    panels[0][0].set_title(f"{fill(words[0], 14)}, n = {BOUNCES[0]}", fontsize=SMALL, loc="right")
    for row, (word, n) in enumerate((word, n) for word in words for n in BOUNCES):
        if row:
            panels[row][0].text(1, 0.5, f"n = {n}", ha="right", va="center", fontsize=SMALL)
        if row == len(BOUNCES):
            panels[row][0].set_title(fill(word, 14), fontsize=SMALL, loc="right")
        for axes, layer in zip(panels[row][1:], [*range(len(seen.blocks)), None], strict=True):
            made = tr.tasks.concept_maps(
                seen, words, layers=layer, n=n, direction=walk["direction"], padding=walk["padding"]
            )
            axes.imshow(made.map(word).overlay(shown))


def halves(mosaics: Mosaics) -> list[int]:
    """The first mosaics of the reported half that are two halves of a picture; nothing was looked for."""
    even = mosaics.truth.float().mean((2, 3))[:, 0] == 0.5
    return (even & ~mosaics.development).nonzero()[:, 0].tolist()[:SHOWN]


def picture_of(mosaics: Mosaics, place: int) -> PIL.Image.Image:
    """As a file would hold it."""
    pixels = (mosaics.pictures[place] + 1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    return PIL.Image.fromarray(pixels)


def noise_curves() -> Figure:
    """AP of each method as it was chosen, at every share of noise; and of the chosen walk in every layer."""
    figure = Figure(figsize=(FULL, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    levels = [f"{level}" for level in found()["levels"]]
    colours = iter(COLOURS * 3)
    for row in found()["methods"]:
        variant = Variant.read(row["variant"])
        line = curve(variant, levels)
        if np.isfinite(line).sum() > 1:
            ours = row["method"].startswith(OURS)
            label = NAMES[row["method"]].strip("*")
            left.plot([float(x) for x in levels], line, color=next(colours), lw=1.4 if ours else 0.9,
                      ls="-" if ours else "--", label=label)  # fmt: skip
    walk = walk_variant()
    seen = dict.fromkeys(Variant.read(row["variant"]).layer for row in found()["rows"])
    for layer, colour in zip([name for name in seen if name != "none"], COLOURS, strict=False):
        line = curve(Variant(walk.method, layer, walk.options), levels)
        right.plot(
            [float(x) for x in levels], line, color=colour, lw=1.2, ls="--" if layer == EVERY else "-", label=layer
        )
    for axes, title in ((left, "methods, as chosen"), (right, f"bounce, n = {walk.settings['n']}, by layer")):
        axes.axhline(chance(), color="#b9b9c3", lw=0.8)
        axes.set_title(title, fontsize=SMALL + 0.5)
        axes.set_xlabel("share of noise")
        axes.legend(fontsize=SMALL - 1.5, frameon=False, ncols=2)
    left.set_ylabel("AP")
    return figure


def curve(variant: Variant, levels: list[str]) -> np.ndarray:
    by: dict[Any, Any] = found()["by"]
    return np.array([by.get((str(variant), level), {}).get("ap", np.nan) for level in levels], float)


def chance() -> float:
    return float(next(row["ap"] for row in found()["methods"] if row["method"] == "random"))


def main() -> None:
    what, *folders = sys.argv[1:] or ["noise"]
    with paper_style():
        figure = maps(*map(Path, folders)) if what == "maps" else noise_curves()
        figure.savefig(FOLDER / f"concept-{what}.png", dpi=110)


if __name__ == "__main__":
    main()
