"""``tokenrank text``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    word_of,
)
from .report import reported

if TYPE_CHECKING:
    from ..observation import Observation


def text(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, in quotes.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            help="A folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of a model that reads text.",
            show_default=False,
        ),
    ],
    layer: LayerOption = None,
    heads: HeadsOption = "lambda2",
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Where the walk starts: a word of the text, or the index of a token (for a word that occurs twice).",
            show_default="everywhere, evenly",
        ),
    ] = None,
    bounces: BouncesOption = 8,
    alpha: AlphaOption = 0.99,
    out: OutOption = Path("tokenrank-out"),
    formats: FormatsOption = "png,pdf",
    table: TableOption = TableFormat.json,
) -> None:
    """Follow attention through a text: figures bounces and lambda2, and a table."""
    with reported():
        follow = Follow(layer, heads, tokens, bounces, alpha, out, formats, table)

        def observed() -> Observation:
            from ..reading import observe

            return observe(text, model, kind="text")

        follow("text", observed, lambda seen: None if start is None else word_of(start, seen.layout), {"text": text})
