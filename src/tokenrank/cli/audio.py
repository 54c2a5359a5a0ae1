"""``tokenrank audio``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, printable
from .image import Follow
from .options import (
    AlphaOption,
    BouncesOption,
    FormatsOption,
    HeadsOption,
    LayerOption,
    OutOption,
    TableFormat,
    TableOption,
    TokensOption,
    seconds_of,
)
from .report import one_line, reported

if TYPE_CHECKING:
    from ..observation import Observation


def audio(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A sound: wav, flac, ogg, mp3, aiff.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of a model that reads sounds, "
            "such as Whisper.",
            show_default=False,
        ),
    ],
    layer: LayerOption = None,
    heads: HeadsOption = "lambda2",
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Where the walk starts, such as 1.3.", show_default="everywhere, evenly"),
    ] = None,
    bounces: BouncesOption = 8,
    alpha: AlphaOption = 0.99,
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
    out: OutOption = Path("tokenrank-out"),
    formats: FormatsOption = "png,pdf",
    table: TableOption = TableFormat.json,
) -> None:
    """Follow attention through a sound: figures bounces, words and lambda2, and a table."""
    with reported():
        follow = Follow(layer, heads, tokens, bounces, alpha, out, formats, table, ("bounces", "words", "lambda2"))
        from ..layout import at
        from ..models import read_sound

        begin = None if start is None else at(seconds=seconds_of(start, "start"))
        stretch = None if part is None else _part_of(part)
        sound = read_sound(path, part=stretch)

        def observed() -> Observation:
            from ..reading import observe

            return observe(sound, model, kind="audio", said=said)

        facts = {"sound": one_line(path), "seconds": sound.seconds, "rate": sound.rate, "part": stretch}
        follow(Path(path).name, observed, lambda _: begin, facts)


def _part_of(text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f"part {printable(text)} is not FROM,TO; give seconds, such as 0,30")
    return seconds_of(parts[0], "part"), seconds_of(parts[1], "part")
