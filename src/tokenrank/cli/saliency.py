"""``tokenrank saliency``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..grammar import HEADS_FORMS, LAYER_FORMS
from .labels import FORMATS, Labelling, check_extras
from .meaning import choice_of, heads_of, layers_of, rule_of
from .options import (
    OUT,
    SALIENCY_WAYS,
    SIDES,
    ComponentOption,
    LabelFormatsOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    QuietOption,
    RefineOption,
    RuleOption,
    SizeOption,
    completed,
)
from .report import reported


def saliency(
    paths: PicturesArgument,
    model: ModelOption = "bundled",
    how: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="arrival: where attention arrives, spread over what looks alike; border: bounces to the border; slow, "
            "metastable: the half of the picture where attention arrives; tokenrank: its place rather than its extent.",
            autocompletion=completed(SALIENCY_WAYS),
        ),
    ] = "arrival",
    side: Annotated[
        str,
        typer.Option(
            metavar="|".join(SIDES),
            help="slow, metastable: the object is the half where attention arrives, that has less of the border, or "
            "that holds the largest entry.",
            autocompletion=completed(SIDES),
        ),
    ] = "tokenrank",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help=f"Which layer: {LAYER_FORMS}. Several times for several; by default the last quarter of them (border: "
            "all).",
            show_default=False,
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="HEADS",
            help=f"Which heads: {HEADS_FORMS}. By default uniform with arrival and tokenrank, lambda2 with the "
            "others; border takes |λ2|¹⁶.",
            show_default=False,
            autocompletion=completed(("lambda2", "uniform")),
        ),
    ] = None,
    rule: RuleOption = "mean",
    component: ComponentOption = False,
    refine: RefineOption = False,
    size: SizeOption = None,
    out: OutOption = OUT,
    formats: LabelFormatsOption = FORMATS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cut out the object of pictures, without being told where it is.

    A figure, the mask as an indexed png, and COCO json.
    """
    with reported(quiet):
        options = {
            "how": choice_of(how, "how", SALIENCY_WAYS),
            "side": choice_of(side, "side", SIDES),
            "layer": layers_of(layer),
            "heads": None if heads is None else heads_of(heads),
            "rule": rule_of(rule),
            "component": component,
            "refine": "guided" if refine else None,
        }
        check_extras(refine, component)
        labelling = Labelling("saliency", paths, model, size, out, formats, overwrite)
        labelling.run(lambda _: options)
