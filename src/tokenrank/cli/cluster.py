"""``tokenrank cluster``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .options import Out, Size, head_of, layer_of
from .report import one_line, progress, reported

PREFIX = "cluster"


class How(str, Enum):
    """Ways to cluster."""

    merge = "merge"
    metastable = "metastable"


class AnchorGrid(str, Enum):
    """Ways to choose anchors."""

    uniform = "uniform"
    tokenrank = "tokenrank"
    top = "tokenrank-top"
    nms = "tokenrank-nms"
    sample = "tokenrank-sample"
    cells = "tokenrank-cells"


def cluster(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A picture.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(help="bundled, a folder, OWNER/NAME on the Hugging Face hub (downloaded once), or timm:NAME."),
    ] = "bundled",
    how: Annotated[How, typer.Option(help="merge: maps that say the same (DiffSeg); metastable: PCCA+.")] = How.merge,
    k: Annotated[int | None, typer.Option("-k", "--k", help="Number of segments.", show_default="found out")] = None,
    tau: Annotated[str, typer.Option(help="merge: distance below which maps are merged, or auto.")] = "auto",
    anchors: Annotated[int, typer.Option(help="merge: anchors along each side.")] = 16,
    grid: Annotated[AnchorGrid, typer.Option(help="merge: where anchors are.")] = AnchorGrid.uniform,
    sort: Annotated[bool, typer.Option("--sort", help="merge: anchors of large TokenRank first.")] = False,
    n: Annotated[int, typer.Option("--n", help="merge: bounces of the maps.")] = 1,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Number from 0 or name; several times for several.", show_default="two thirds up the stack"),
    ] = None,
    head: Annotated[str, typer.Option(help="uniform; lambda2: heads weighted by |λ2|; or one head.")] = "uniform",
    size: Size = None,
    out: Out = Path("tokenrank-out"),
) -> None:
    """Divide a picture into segments: an overlay, the labels as an indexed png, and COCO json."""
    with reported():
        from ..models import read_image
        from .files import OutFolder
        from .labels import label_names, write_labels

        heads, distance = head_of(head), tau_of(tau)
        layers: Any = None if not layer else [layer_of(one) for one in layer]
        folder = OutFolder(out, label_names(PREFIX))
        picture = read_image(path)
        with progress(1) as report:
            name = Path(path).name
            report(name, "starting")
            from ..tasks.cluster import cluster as divide

            report(name, "running the model")
            found = divide(
                picture,
                model=model,
                how=how.value,
                k=k,
                tau=distance,
                anchors=anchors,
                grid=grid.value,
                sort=sort,
                n=n,
                layers=layers,
                heads=heads,
                size=size,
            )
            report(name, "writing")
            write_labels(found, picture, one_line(name), folder, PREFIX)


def tau_of(text: str) -> Any:
    """What ``--tau`` means.

    Raises:
        InputError: neither auto nor a positive number.
    """
    if text == "auto":
        return "auto"
    try:
        distance = float(text)
    except ValueError:
        distance = 0.0
    if not 0 < distance < float("inf"):
        raise InputError(f"tau = {one_line(text)!r}, expected auto, or a positive distance such as 1.1")
    return distance
