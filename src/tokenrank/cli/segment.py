"""``tokenrank segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .labels import FORMATS, Labelling, check_extras
from .meaning import MOST_BOUNCES, heads_of, layer_of, rule_of, share_of, steps_of, whole_of
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
    completed,
)
from .places import Spot, box_of, mask_of, named, start_of
from .report import MisuseError, reported
from .words import WordLabelling, words_of

if TYPE_CHECKING:
    import PIL.Image

NOISE = "0.5"


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
    words: Annotated[
        str | None,
        typer.Option(
            metavar="WORD,WORD,…",
            help="Words instead, for a pipeline of diffusers: the picture is encoded, noised, and denoised once with "
            "the prompt; a word is where the picture attends to it.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Words: what the denoiser is told.", show_default="a WORD and a WORD …"),
    ] = None,
    noise: Annotated[
        str, typer.Option(metavar="SHARE", help="Words: how much noise the picture gets, above 0 and at most 1.")
    ] = NOISE,
    n: Annotated[
        str | None,
        typer.Option(
            "--n",
            metavar="N",
            help="Bounces, or halflife: as many until half of the start is forgotten (not with words).",
            show_default="2, with words 3",
            autocompletion=completed(("1", "2", "halflife")),
        ),
    ] = None,
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
    """Cut objects out of pictures, from a point, a box, a mask or words.

    What a walk from there reaches within a few bounces: a figure with its legend, the labels as an indexed png, and
    COCO json; with words a figure of layers and bounces, too.
    """
    with reported(quiet):
        asked = {"--start": start, "--box": box, "--mask": mask, "--words": words}
        given = [name for name, value in asked.items() if value]
        if len(given) > 1:
            raise MisuseError(f"{' and '.join(given)} are given, expected one of them: each says where the walk starts")
        if words is not None:
            refused = {"--rule": rule != "mean", "--component": component, "--refine": refine}
            if any(refused.values()):
                raise MisuseError(
                    f"{next(k for k, v in refused.items() if v)} is of places, and --words is given; leave it out"
                )
            told = words_of(words)
            by_words: dict[str, Any] = {
                "layer": layer_of(layer),
                "heads": None if heads is None else heads_of(heads),
                "n": None if n is None else whole_of(n, "n", 0, MOST_BOUNCES),
                "direction": "backward" if backward else None,
            }
            said = prompt if prompt is not None else " and ".join(f"a {word}" for word in told)
            divided = WordLabelling(paths, model, size, out, formats, overwrite)
            divided.divide(told, said, share_of(noise, "noise"), by_words)
            return
        for name, value in {"--prompt": prompt is not None, "--noise": noise != NOISE}.items():
            if value:
                raise MisuseError(f"{name} goes with --words, which is not given")
        spots, boxes = [start_of(text) for text in start or []], [box_of(text) for text in box or []]
        options = {
            "n": steps_of("2" if n is None else n),
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
