"""The picture of docs/tasks.md: saliency, segment and cluster on the bundled photographs.

python benchmarks/task_figure.py
"""

from __future__ import annotations

from pathlib import Path

from facts import parser
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.models import read_image

CLUSTERS = 6


def main() -> None:
    parser(__doc__, out=False).parse_args()
    model, names = tr.load("bundled"), tr.samples.names()
    figure = Figure(figsize=(7.2, 1.45 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 4)
    for row, name in zip(panels, names, strict=True):
        picture = read_image(tr.samples.path(name))
        grey = picture.convert("L").convert("RGB")  # so that the labels' colours stand out
        observation = tr.observe(picture, model)
        shown = {
            name: picture,
            "saliency": tr.tasks.saliency(observation, refine="guided").overlay(grey),
            "segment, n = 2": tr.tasks.segment(observation, tr.samples.start(name)).overlay(grey),
            f"cluster, k = {CLUSTERS}": tr.tasks.cluster(observation, k=CLUSTERS).overlay(grey),
        }
        for axes, (title, image) in zip(row, shown.items(), strict=True):
            axes.imshow(image)
            axes.set_title(title, fontsize=8)
            axes.set_axis_off()
    figure.savefig(Path(__file__).parent.parent / "docs/figures/tasks.png", dpi=110)


if __name__ == "__main__":
    main()
