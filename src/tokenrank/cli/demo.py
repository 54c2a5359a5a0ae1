"""``tokenrank demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Formats, Out, Size, Table, TableFormat
from .report import progress, reported


def demo(
    out: Out = Path("tokenrank-out"),
    model: Annotated[str, typer.Option(help="Another model than the one that comes along.")] = "bundled",
    size: Size = None,
    formats: Formats = "png,pdf",
    table: Table = TableFormat.json,
) -> None:
    """The bundled model on the bundled photographs: no download, under a minute."""
    with reported():
        from .. import samples
        from .files import OutFolder
        from .results import formats_of, result_names, write_results
        from .tables import check_table_format

        forms = formats_of(formats)
        check_table_format(table)
        names = samples.names()
        folder = OutFolder(out, [file for name in names for file in result_names(forms, table, f"{name}-")])
        with progress(1 + len(names)) as report:
            report("model", "loading")
            from ..analysis import analyze
            from ..models import load

            loaded = load(model, kind="image")
            for name in names:
                analysis = analyze(
                    samples.path(name),
                    loaded,
                    start=samples.start(name),
                    size=size,
                    progress=lambda stage, name=name: report(name, stage),  # type: ignore[misc]
                )
                report(name, "drawing")
                facts = {"picture": samples.path(name).name, "size": size}
                write_results(analysis, folder, forms, table, facts, f"{name}-")
