"""``tokenrank segment``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .options import Head, Layer, Out, Size, head_of, layer_of
from .report import one_line, progress, reported

if TYPE_CHECKING:
    from ..markov import Bounces

PREFIX = "segment"


def segment(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A picture.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(help="bundled, a folder, OWNER/NAME on the Hugging Face hub (downloaded once), or timm:NAME."),
    ] = "bundled",
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
    layer: Layer = None,
    head: Head = "lambda2",
    backward: Annotated[
        bool, typer.Option("--backward", help="Walk to the tokens that attend to the start; else follow attention.")
    ] = False,
    rule: Annotated[
        str, typer.Option(help="mean: what is above the mean; a share of the map's mass, such as 0.6; all.")
    ] = "mean",
    component: Annotated[bool, typer.Option("--component", help="Keep the connected part at the start.")] = False,
    refine: Annotated[bool, typer.Option("--refine", help="Follow the picture's edges; needs tokenrank[refine].")] = (
        False
    ),
    size: Size = None,
    out: Out = Path("tokenrank-out"),
) -> None:
    """Cut objects out: an overlay, the labels as an indexed png, and COCO json."""
    with reported():
        from ..models import read_image
        from .files import OutFolder
        from .labels import label_names, write_labels

        heads, chosen, steps, cut = head_of(head), layer_of(layer), steps_of(n), rule_of(rule)
        folder = OutFolder(out, label_names(PREFIX))
        picture = read_image(path)
        places: list[Any] = [start_of(text, *picture.size) for text in start or []]
        places += [box_of(text) for text in box or []]
        places += [_mask(mask, picture.size)] if mask is not None else []
        with progress(1) as report:
            name = Path(path).name
            report(name, "starting")
            from ..tasks.segment import segment as cut_out

            report(name, "running the model")
            found = cut_out(
                picture,
                (places if len(places) > 1 else places[0]) if places else None,
                model=model,
                n=steps,
                layer=chosen,
                heads=heads,
                direction="backward" if backward else "forward",
                rule=cut,
                component=component,
                refine="guided" if refine else None,
                size=size,
            )
            report(name, "writing")
            write_labels(found, picture, one_line(name), folder, PREFIX)


def start_of(text: str, width: int, height: int) -> Any:
    """What ``--start`` means: a point, or the name of a span of tokens.

    Raises:
        InputError: neither.
    """
    from .places import point_of

    return text if re.fullmatch(r"[A-Za-z_]\w*", text) else point_of(text, width, height)


def box_of(text: str) -> tuple[float, float, float, float]:
    """What ``--box`` means: four whole numbers in pixels, or fractions where one has a decimal point.

    Raises:
        InputError: not four numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part) if "." in text else int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise InputError(
            f"box {one_line(text)!r} is not x0,y0,x1,y1; give pixels as whole numbers, such as 20,10,200,180, or "
            "fractions with a decimal point, such as 0.1,0.1,0.6,0.9"
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def steps_of(text: str) -> Bounces:
    """What ``--n`` means.

    Raises:
        InputError: neither a whole number nor "halflife".
    """
    from .options import MOST_BOUNCES

    if text == "halflife":
        return "halflife"
    if not re.fullmatch(r"\d+", text) or int(text) > MOST_BOUNCES:
        raise InputError(f"n = {one_line(text)!r}, expected 0 to {MOST_BOUNCES:,}, or halflife")
    return int(text)


def rule_of(text: str) -> Any:
    """What ``--rule`` means.

    Raises:
        InputError: none of the words, and no share.
    """
    if text in ("mean", "all"):
        return None if text == "all" else text
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"rule = {one_line(text)!r}, expected mean, all, or a share of the mass such as 0.6")
    return share


def _mask(path: str, size: tuple[int, int]) -> Any:
    import numpy as np

    from ..models import read_image

    picture = read_image(path)
    if picture.size != size:
        raise InputError(
            f"the mask {one_line(path)} has {picture.width} × {picture.height} pixels, expected the picture's "
            f"{size[0]} × {size[1]}"
        )
    return np.asarray(picture.convert("L")) > 127
