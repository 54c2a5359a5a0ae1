"""``tokenrank text``."""

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
    word_of,
)
from .report import reported

if TYPE_CHECKING:
    from ..chain import Start
    from ..observation import Observation


def text(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, in quotes.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            help="bundled (English), a folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of one that "
            "reads text.",
        ),
    ] = "bundled",
    layer: LayerOption = None,
    heads: HeadsOption = "lambda2",
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Where the walk starts: a word of the text, or the index of a token (for a word that occurs twice), "
            "special tokens not counted where they are left out.",
            show_default="everywhere, evenly",
        ),
    ] = None,
    bounces: BouncesOption = 8,
    alpha: AlphaOption = 0.99,
    out: OutOption = Path("tokenrank-out"),
    formats: FormatsOption = "png,pdf",
    table: TableOption = TableFormat.json,
) -> None:
    """Follow attention through a text: figures bounces and lambda2, and a table. Without a model of your own nothing is
    downloaded."""
    with reported():
        _refuse_files(text)
        follow = Follow(layer, heads, tokens, bounces, alpha, out, formats, table)

        def observed() -> Observation:
            from ..reading import observe

            return observe(text, model, kind="text")

        def begin(seen: Observation) -> Start | None:
            layout = seen.head_chains(follow.choice["layer"], follow.choice["tokens"]).layout
            return None if start is None or layout is None else word_of(start, layout)

        follow("text", observed, begin, {"text": text})


def _refuse_files(text: str) -> None:
    """A file's name is seldom the text that was meant."""
    from ..models.texts import is_path

    if Path(text).suffix and is_path(text):
        raise InputError(f'{printable(text)} is a file; give what is in it: tokenrank text "$(cat FILE)"')
