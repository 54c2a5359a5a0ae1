"""``tokenrank cluster``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    HeadsOption,
    LayersOption,
    ModelOption,
    OutOption,
    PictureArgument,
    SizeOption,
    heads_of,
    layers_of,
    tau_of,
)
from .report import one_line, progress, reported

PREFIX = "cluster"


class WayOption(str, Enum):
    """Ways to cluster."""

    merge = "merge"
    metastable = "metastable"


class AnchorsOption(str, Enum):
    """Ways to choose anchors."""

    uniform = "uniform"
    tokenrank = "tokenrank"
    top = "tokenrank-top"
    nms = "tokenrank-nms"
    sample = "tokenrank-sample"
    cells = "tokenrank-cells"


def cluster(
    path: PictureArgument,
    model: ModelOption = "bundled",
    how: Annotated[
        WayOption, typer.Option(help="merge: maps that say the same (DiffSeg); metastable: PCCA+.")
    ] = WayOption.merge,
    k: Annotated[int | None, typer.Option("-k", "--k", help="Number of segments.", show_default="found out")] = None,
    tau: Annotated[str, typer.Option(help="merge: distance below which maps are merged, or auto.")] = "auto",
    anchors: Annotated[int, typer.Option(help="merge: anchors along each side.")] = 16,
    grid: Annotated[AnchorsOption, typer.Option(help="merge: where anchors are.")] = AnchorsOption.uniform,
    sort: Annotated[bool, typer.Option("--sort", help="merge: anchors of large TokenRank first.")] = False,
    n: Annotated[int, typer.Option("--n", help="merge: bounces of the maps.")] = 1,
    layer: LayersOption = None,
    heads: HeadsOption = "lambda2",
    size: SizeOption = None,
    out: OutOption = Path("tokenrank-out"),
) -> None:
    """Divide a picture into segments: an overlay, the labels as an indexed png, and COCO json."""
    with reported():
        from ..models import read_image
        from .output import OutFolder, label_names, write_labels

        chosen, mixed, distance = layers_of(layer), heads_of(heads), tau_of(tau)
        folder = OutFolder(out, label_names(PREFIX))
        picture = read_image(path)
        with progress(1) as report:
            name = Path(path).name
            report(name, "starting")
            from ..tasks.cluster import cluster as divide

            report(name, "running the model")
            segmentation = divide(
                picture,
                how=how.value,
                k=k,
                tau=distance,
                anchors=anchors,
                grid=grid.value,
                sort=sort,
                n=n,
                layer=chosen,
                heads=mixed,
                model=model,
                kind="image",
                size=size,
            )
            report(name, "writing")
            write_labels(segmentation, one_line(name), folder, PREFIX)
