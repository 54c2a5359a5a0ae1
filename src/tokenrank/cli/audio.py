"""``tokenrank audio``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..endings import SOUNDS
from .batch import Say, each, model_of
from .follow import Follow
from .meaning import seconds_of
from .options import (
    ALPHA,
    BOUNCES,
    OUT,
    AlphaOption,
    BouncesOption,
    FormatsOption,
    HeadsOption,
    LayerOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    ScaleOption,
    TableOption,
    TokensOption,
)
from .places import part_of
from .report import one_line, reported
from .sources import Source, sources_of


def audio(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...",
            help="Sounds (wav, flac, ogg, mp3, aiff), and folders of them; pip install 'tokenrank[audio]'. One that "
            "fails is listed and the rest done; the exit code is then 3.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="A folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of a model that reads sounds, "
            "such as Whisper.",
            show_default=False,
        ),
    ],
    layer: LayerOption = None,
    heads: HeadsOption = None,
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Where the walk starts, such as 1.3.", show_default="everywhere, evenly"),
    ] = None,
    n: BouncesOption = BOUNCES,
    alpha: AlphaOption = ALPHA,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="FROM,TO", help="Which part of the sound, in seconds, such as 0,30.", show_default="all of it"
        ),
    ] = None,
    said: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What is said, in quotes, for a model that writes it down.",
            show_default="the model's own transcript",
        ),
    ] = None,
    scale: ScaleOption = "each",
    out: OutOption = OUT,
    formats: FormatsOption = "png",
    table: TableOption = "json",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow attention through sounds.

    Figures bounces, words (when what was said) and lambda2, and a table of all numbers.
    """
    with reported(quiet):
        follow = Follow(layer, heads, tokens, n, alpha, formats, table, scale, figures=("bounces", "words", "lambda2"))
        second = None if start is None else seconds_of(start, "start")
        stretch = None if part is None else part_of(part)
        sources = sources_of(paths, "sound", SOUNDS)
        folder = follow.folder(out, sources, overwrite)
        loaded = model_of(model, "audio")

        def work(source: Source, say: Say) -> None:
            say("reading")
            from ..layout import at
            from ..models import read_sound

            sound = read_sound(source.path, part=stretch)
            say("loading the model")
            from ..reading import observe

            observation = observe(sound, loaded(), said=said)
            facts = {
                "sound": one_line(source.path),
                "seconds": sound.seconds,
                "rate": sound.rate,
                "part": stretch,
            }
            begin = None if second is None else at(seconds=second)
            follow(source, observation, begin, facts, folder, say)

        each(sources, "sound", folder, work)
