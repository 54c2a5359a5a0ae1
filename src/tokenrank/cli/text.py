"""``tokenrank text``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Alpha, Bounces, Formats, Head, Layer, Out, Table, TableFormat, bounces_of, head_of, layer_of
from .report import progress, reported


def text(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, in quotes.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            help="A folder, or OWNER/NAME on the Hugging Face hub (downloaded once), of a model that reads text.",
            show_default=False,
        ),
    ],
    layer: Layer = None,
    head: Head = "lambda2",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Where the walk starts: a word of the text, or the index of a token (for a word that occurs twice).",
            show_default="everywhere, evenly",
        ),
    ] = None,
    bounces: Bounces = 8,
    alpha: Alpha = 0.99,
    out: Out = Path("tokenrank-out"),
    formats: Formats = "png,pdf",
    table: Table = TableFormat.json,
) -> None:
    """Follow attention through a text: figures bounces and lambda2, and a table."""
    with reported():
        from .files import OutFolder
        from .places import word_of
        from .results import formats_of, result_names, write_results
        from .tables import check_table_format

        steps, heads, chosen, forms = bounces_of(bounces), head_of(head), layer_of(layer), formats_of(formats)
        check_table_format(table)
        folder = OutFolder(out, result_names(forms, table))
        with progress(1) as report:
            report("text", "loading the model")
            from ..analysis import analyze
            from ..models import load

            loaded = load(model, kind="text")
            layout = loaded.layout_for(loaded.prepare(text))
            begin = None if start is None or layout is None else word_of(start, layout)
            analysis = analyze(
                text,
                loaded,
                layer=chosen,
                heads=heads,
                start=begin,
                bounces=steps,
                alpha=alpha,
                progress=lambda stage: report("text", stage),
            )
            report("text", "drawing")
            write_results(analysis, folder, forms, table, {"text": text})
