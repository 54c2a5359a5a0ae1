"""``tokenrank segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    HeadsOption,
    LayerOption,
    ModelOption,
    OutOption,
    PictureArgument,
    SizeOption,
    box_of,
    heads_of,
    layer_of,
    mask_of,
    rule_of,
    start_of,
    steps_of,
)
from .report import one_line, progress, reported

PREFIX = "segment"


def segment(
    path: PictureArgument,
    model: ModelOption = "bundled",
    start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y|cls",
            help="Where the walk starts: a pixel as two whole numbers (320,180), fractions with a decimal point "
            "(0.5,0.4), cls, or registers. Several times for several labels.",
            show_default="the centre",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Or a box: pixels as whole numbers, or fractions with a point."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="Or a mask: a picture of the same size, white is inside.")
    ] = None,
    n: Annotated[str, typer.Option("--n", help="Bounces, or halflife: how many is found out.")] = "2",
    layer: LayerOption = None,
    heads: HeadsOption = "lambda2",
    backward: Annotated[
        bool, typer.Option("--backward", help="Walk to the tokens that attend to the start; else follow attention.")
    ] = False,
    rule: Annotated[
        str, typer.Option(help="mean: what is above the mean; a share of the map's mass, such as 0.6; all.")
    ] = "mean",
    component: Annotated[bool, typer.Option("--component", help="Keep the connected part at the start.")] = False,
    refine: Annotated[bool, typer.Option("--refine", help="Follow the picture's edges; needs tokenrank\\[refine].")] = (
        False
    ),
    size: SizeOption = None,
    out: OutOption = Path("tokenrank-out"),
) -> None:
    """Cut objects out: an overlay, the labels as an indexed png, and COCO json."""
    with reported():
        from ..models import read_image
        from .output import OutFolder, label_names, write_labels

        chosen, mixed, steps, cut = layer_of(layer), heads_of(heads), steps_of(n), rule_of(rule)
        folder = OutFolder(out, label_names(PREFIX))
        picture = read_image(path)
        places: list[Any] = [start_of(text, *picture.size) for text in start or []]
        places += [box_of(text) for text in box or []]
        places += [mask_of(mask, picture.size)] if mask is not None else []
        with progress(1) as report:
            name = Path(path).name
            report(name, "starting")
            from ..tasks.segment import segment as cut_out

            report(name, "running the model")
            segmentation = cut_out(
                picture,
                (places if len(places) > 1 else places[0]) if places else None,
                n=steps,
                layer=chosen,
                heads=mixed,
                direction="backward" if backward else "forward",
                rule=cut,
                component=component,
                refine="guided" if refine else None,
                model=model,
                kind="image",
                size=size,
            )
            report(name, "writing")
            write_labels(segmentation, one_line(name), folder, PREFIX)
