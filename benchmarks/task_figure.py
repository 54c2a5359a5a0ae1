"""The picture of docs/tasks.md: saliency, segment and cluster on the bundled photographs.

python benchmarks/task_figure.py
"""

from __future__ import annotations

from pathlib import Path

from facts import parser
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.models import read_image
from tokenrank.tasks.segmentation import Segmentation
from tokenrank.view.labels import number_segments
from tokenrank.view.style import FULL, QUIET, SMALL, TITLE, paper_style, save

CLUSTERS = 6
LABEL, GAP, MARGIN = 0.62, 0.05, 0.04  # inches
TITLES = {
    "picture": "",
    "saliency": "no start",
    "segment": "two bounces\nfrom ○",
    "cluster": f"{CLUSTERS} parts",
}


def main() -> None:
    parser(__doc__, out=False).parse_args()
    model, names = tr.load("bundled"), tr.samples.names()
    pictures = [read_image(tr.samples.path(name)) for name in names]
    shapes = [picture.width / picture.height for picture in pictures]
    down = (FULL - LABEL - MARGIN - (len(names) - 1) * GAP) / sum(shapes)  # of a row: all pictures are equally high
    height = len(TITLES) * (down + GAP) - GAP + 2 * MARGIN
    with paper_style():
        figure = Figure(figsize=(FULL, height))
        for row, (title, words) in enumerate(TITLES.items()):
            middle = 1 - (MARGIN + row * (down + GAP) + down / 2) / height
            figure.text(MARGIN / FULL, middle + 0.02 / height, title, fontsize=TITLE, va="bottom")
            figure.text(MARGIN / FULL, middle - 0.02 / height, words, fontsize=SMALL, color=QUIET, va="top")
        left = LABEL
        for name, picture, shape in zip(names, pictures, shapes, strict=True):
            observation = tr.observe(picture, model)
            found: list[Segmentation | None] = [
                None,
                tr.tasks.saliency(observation, refine="guided"),
                tr.tasks.segment(observation, tr.samples.start(name)),
                tr.tasks.cluster(observation, k=CLUSTERS),
            ]
            grey = picture.convert("L").convert("RGB")  # so that the labels' colours stand out
            for row, labels in enumerate(found):
                bottom = 1 - (MARGIN + row * (down + GAP) + down) / height
                axes = figure.add_axes((left / FULL, bottom, down * shape / FULL, down / height))
                shown = picture if labels is None else labels.overlay(grey)
                axes.imshow(shown, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
                axes.set_axis_off()
                if labels is not None and len(labels.names) > 2:
                    number_segments(axes, labels.labels, len(labels.names))
            left += down * shape + GAP
    save(figure, Path(__file__).parent.parent / "docs/figures/tasks", dpi=130)


if __name__ == "__main__":
    main()
