"""DiffSeg before and after a TokenRank grid: anchors and segments of the package's photographs.

    python -m benchmarks.diffseg_figure [--model FOLDER] [--size N] [--tau T]

Writes docs/figures/diffseg.png. All layers evenly; both grids have as many anchors, and the same distance of merging.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import PIL.Image
import torch
from filled import counted
from matplotlib.axes import Axes
from panels import GAP, PIXELS, Sheet, side_of

import tokenrank as tr
from tokenrank.models import read_image
from tokenrank.tasks.anchors import AnchorGrid, anchors_of
from tokenrank.tasks.cluster import cluster, joined_chain
from tokenrank.tasks.masks import grid_of
from tokenrank.tasks.strength import unjudged
from tokenrank.view.style import TITLE

OUT = Path(__file__).resolve().parent.parent / "docs" / "figures" / "diffseg.png"
GRIDS: tuple[AnchorGrid, ...] = ("uniform", "tokenrank-nms", "tokenrank-cells")
NAMES = {"uniform": "uniform grid", "tokenrank-nms": "largest TokenRank, apart", "tokenrank-cells": "best of each cell"}
ANCHORS = 8


def square(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The middle of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((2 * PIXELS, 2 * PIXELS))


def row(axes: list[Axes], picture: PIL.Image.Image, model: tr.Model, tau: float) -> None:
    """Of each grid the anchors on the picture, and the segments."""
    observation = unjudged(tr.observe(picture, model))
    chain = joined_chain(observation, observation.layers, "uniform")
    rows, columns = grid_of(chain)
    for place, grid in enumerate(GRIDS):
        anchors = anchors_of(chain, (rows, columns), ANCHORS, grid).numpy()
        found = cluster(observation, layer="*", heads="uniform", tau=tau, anchors=ANCHORS, grid=grid)
        dots, segments = axes[2 * place], axes[2 * place + 1]
        for one, image in ((dots, np.asarray(picture)), (segments, np.asarray(found.overlay(opacity=0.75)))):
            one.imshow(image, extent=(0, 1, 1, 0), interpolation="antialiased")
            one.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
            one.spines[:].set_visible(False)
        x, y = (anchors % columns + 0.5) / columns, (anchors // columns + 0.5) / rows
        dots.scatter(x, y, s=5, c="white", edgecolors="black", linewidths=0.5)
        segments.annotate(counted(len(found.names) - 1, "segment"), (0.5, 0), (0, -2), "axes fraction", "offset points",
                          ha="center", va="top", fontsize=TITLE - 2)  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="bundled")
    arguments.add_argument("--size", type=int, default=256)
    arguments.add_argument("--tau", type=float, default=0.1)
    arguments.add_argument("--out", type=Path, default=OUT)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    model = tr.load(given.model, size=given.size, kind="image")
    names = tr.samples.names()
    side, head, foot = side_of(2 * len(GRIDS)), 0.25, 0.16
    sheet = Sheet(head + len(names) * (side + foot))
    for number, name in enumerate(names):
        axes, _ = sheet.row(head + number * (side + foot), 2 * len(GRIDS))
        row(axes, square(read_image(tr.samples.path(name))), model, given.tau)
    for place, grid in enumerate(GRIDS):
        middle = 0.05 + (2 * place + 1) * (side + GAP) - GAP / 2
        sheet.words(middle, 0.05, NAMES[grid], fontsize=TITLE, color="black", ha="center")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    sheet.figure.savefig(drawn, dpi=200)
    PIL.Image.open(drawn).convert("RGB").quantize(256).save(given.out, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()
