"""``tokenrank image``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Alpha, Bounces, Formats, Head, Layer, Out, Size, Table, TableFormat, bounces_of, head_of, layer_of
from .report import one_line, progress, reported


def image(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A picture.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(help="bundled, a folder, OWNER/NAME on the Hugging Face hub (downloaded once), or timm:NAME."),
    ] = "bundled",
    layer: Layer = None,
    head: Head = "lambda2",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Where the walk starts: a pixel of the upright picture as two whole numbers (320,180), or fractions "
            "of width and height with a decimal point (0.5,0.4).",
            show_default="the centre",
        ),
    ] = None,
    bounces: Bounces = 8,
    alpha: Alpha = 0.99,
    size: Size = None,
    all_tokens: Annotated[
        bool, typer.Option("--all-tokens", help="Keep CLS and registers in the chain; else patches only.")
    ] = False,
    out: Out = Path("tokenrank-out"),
    formats: Formats = "png,pdf",
    table: Table = TableFormat.json,
) -> None:
    """Follow attention through a picture: figures bounces and lambda2, and a table."""
    with reported():
        from ..models import read_image
        from .files import OutFolder
        from .places import point_of
        from .results import formats_of, result_names, write_results
        from .tables import check_table_format

        steps, heads, chosen, forms = bounces_of(bounces), head_of(head), layer_of(layer), formats_of(formats)
        check_table_format(table)
        folder = OutFolder(out, result_names(forms, table))
        picture = read_image(path)
        begin = None if start is None else point_of(start, *picture.size)
        with progress(1) as report:
            name = Path(path).name
            report(name, "starting")
            from ..analysis import analyze

            analysis = analyze(
                picture,
                model,
                layer=chosen,
                heads=heads,
                start=begin,
                bounces=steps,
                alpha=alpha,
                size=size,
                restrict=not all_tokens,
                kind="image",
                progress=lambda stage: report(name, stage),
            )
            report(name, "drawing")
            facts = {"picture": one_line(path), "pixels": list(picture.size), "size": size}
            write_results(analysis, folder, forms, table, facts)
