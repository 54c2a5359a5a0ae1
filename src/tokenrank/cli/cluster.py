"""``tokenrank cluster``."""

from __future__ import annotations

from typing import Annotated

import typer

from .labels import FORMATS, Labelling
from .meaning import choice_of, heads_of, layers_of, tau_of, whole_of
from .options import (
    ANCHORS,
    CLUSTER_WAYS,
    OUT,
    HeadsOption,
    LabelFormatsOption,
    LayersOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    QuietOption,
    SizeOption,
    completed,
)
from .report import reported

MOST_SEGMENTS = 255  # labels of an indexed png, beside the background
MOST_ANCHORS = 128  # along a side, as many as patches at most


def cluster(
    paths: PicturesArgument,
    model: ModelOption = "bundled",
    how: Annotated[
        str,
        typer.Option(
            metavar="|".join(CLUSTER_WAYS),
            help="merge: maps that say the same (DiffSeg); metastable: what the walk rarely leaves (PCCA+).",
            autocompletion=completed(CLUSTER_WAYS),
        ),
    ] = "merge",
    k: Annotated[
        str | None, typer.Option("-k", "--k", metavar="K", help="Number of segments.", show_default="found out")
    ] = None,
    tau: Annotated[
        str, typer.Option(metavar="TAU", help="merge: distance below which maps are merged, or auto.")
    ] = "auto",
    anchors: Annotated[str, typer.Option(metavar="NUMBER", help="merge: anchors along each side.")] = "16",
    grid: Annotated[
        str,
        typer.Option(
            metavar="GRID",
            help=f"merge: where anchors are: {', '.join(ANCHORS)}.",
            autocompletion=completed(ANCHORS),
        ),
    ] = "uniform",
    sort: Annotated[bool, typer.Option("--sort", help="merge: anchors of large TokenRank first.")] = False,
    n: Annotated[str, typer.Option("--n", metavar="N", help="merge: bounces of the maps.")] = "1",
    layer: LayersOption = None,
    heads: HeadsOption = None,
    size: SizeOption = None,
    out: OutOption = OUT,
    formats: LabelFormatsOption = FORMATS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Divide pictures into segments, without words or training.

    A figure with its legend, the labels as an indexed png, and COCO json.
    """
    with reported(quiet):
        options = {
            "how": choice_of(how, "how", CLUSTER_WAYS),
            "k": None if k is None else whole_of(k, "k", 1, MOST_SEGMENTS),
            "tau": tau_of(tau),
            "anchors": whole_of(anchors, "anchors", 1, MOST_ANCHORS),
            "grid": choice_of(grid, "grid", ANCHORS),
            "sort": sort,
            "n": whole_of(n, "n", 1, 10_000),
            "layer": layers_of(layer),
            "heads": heads_of(heads),
        }
        labelling = Labelling("cluster", paths, model, size, out, formats, overwrite)
        labelling.run(lambda _: options)
