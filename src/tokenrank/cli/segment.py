"""``tokenrank segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .labels import FORMATS, Labelling, check_extras
from .meaning import heads_of, layer_of, rule_of, steps_of
from .options import (
    OUT,
    ComponentOption,
    HeadsOption,
    LabelFormatsOption,
    LayerOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    QuietOption,
    RefineOption,
    RuleOption,
    SizeOption,
    StepsOption,
    completed,
)
from .places import Spot, box_of, mask_of, named, start_of
from .report import MisuseError, reported

if TYPE_CHECKING:
    import PIL.Image


def segment(
    paths: PicturesArgument,
    model: ModelOption = "bundled",
    start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y|cls",
            help="Where the walk starts: a pixel as two whole numbers (320,180), fractions with a decimal point "
            "(0.5,0.4), cls, or registers. Several times for several labels.",
            show_default="the centre",
            autocompletion=completed(("cls", "registers")),
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="A box instead: pixels as whole numbers, or fractions with a point. Several times for several labels.",
        ),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="A mask instead: a picture of the same size, white is inside.")
    ] = None,
    n: StepsOption = "2",
    layer: LayerOption = None,
    heads: HeadsOption = None,
    backward: Annotated[
        bool, typer.Option("--backward", help="Walk to the tokens that attend to the start; else follow attention.")
    ] = False,
    rule: RuleOption = "mean",
    component: ComponentOption = False,
    refine: RefineOption = False,
    size: SizeOption = None,
    out: OutOption = OUT,
    formats: LabelFormatsOption = FORMATS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cut objects out of pictures, from a point, a box or a mask.

    What a walk from there reaches within a few bounces: a figure with its legend, the labels as an indexed png, and
    COCO json.
    """
    with reported(quiet):
        given = [name for name, value in {"--start": start, "--box": box, "--mask": mask}.items() if value]
        if len(given) > 1:
            raise MisuseError(f"{' and '.join(given)} are given, expected one of them: each says where the walk starts")
        spots, boxes = [start_of(text) for text in start or []], [box_of(text) for text in box or []]
        options = {
            "n": steps_of(n),
            "layer": layer_of(layer),
            "heads": heads_of(heads),
            "direction": "backward" if backward else "forward",
            "rule": rule_of(rule),
            "component": component,
            "refine": "guided" if refine else None,
        }
        check_extras(refine, component)
        labelling = Labelling("segment", paths, model, size, out, formats, overwrite, spots, boxes)

        def of_picture(picture: PIL.Image.Image) -> dict[str, Any]:
            places: list[Any] = [spot.at(*picture.size) if isinstance(spot, Spot) else spot for spot in spots]
            places += boxes
            places += [mask_of(mask, picture.size)] if mask is not None else []
            return {"start": named(places), **options}

        labelling.run(of_picture)
