"""``tokenrank image``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..endings import PICTURES
from .batch import Say, each, model_of
from .follow import Follow
from .meaning import size_of
from .options import (
    ALPHA,
    BOUNCES,
    OUT,
    AlphaOption,
    BouncesOption,
    FormatsOption,
    HeadsOption,
    LayerOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    QuietOption,
    ScaleOption,
    SizeOption,
    TableOption,
    TokensOption,
)
from .pictures import check_spots, picture_of
from .places import Spot
from .report import one_line, reported
from .results import FIGURES
from .sources import Source, sources_of


def image(
    paths: PicturesArgument,
    model: ModelOption = "bundled",
    layer: LayerOption = None,
    heads: HeadsOption = None,
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Where the walk starts: a pixel of the upright picture as two whole numbers (320,180), or fractions "
            "of width and height with a decimal point (0.5,0.4).",
            show_default="the centre",
        ),
    ] = None,
    n: BouncesOption = BOUNCES,
    alpha: AlphaOption = ALPHA,
    scale: ScaleOption = "each",
    board: Annotated[
        bool, typer.Option("--board", help="A figure more: TokenRank of every head of every layer.")
    ] = False,
    size: SizeOption = None,
    out: OutOption = OUT,
    formats: FormatsOption = "png",
    table: TableOption = "json",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow attention through pictures.

    Figures bounces (maps after n steps from the start, and TokenRank) and lambda2 (how slowly each head forgets), and a
    table of all numbers.
    """
    with reported(quiet):
        figures = (*FIGURES, "board") if board else FIGURES
        follow = Follow(layer, heads, tokens, n, alpha, formats, table, scale, figures)
        side, spot = size_of(size), None if start is None else Spot(start)
        sources = sources_of(paths, "picture", PICTURES)
        folder = follow.folder(out, sources, overwrite)
        check_spots(sources, [] if spot is None else [spot])
        loaded = model_of(model, "image")

        def work(source: Source, say: Say) -> None:
            say("reading")
            picture = picture_of(source)
            say("loading the model")
            from ..reading import observe

            observation = observe(picture, loaded(), size=side)
            begin = None if spot is None else spot.at(*picture.size)
            facts = {"picture": one_line(source.path), "pixels": list(picture.size), "size": side}
            follow(source, observation, begin, facts, folder, say)

        each(sources, "picture", folder, work)
