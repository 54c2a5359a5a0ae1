"""``tokenrank demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import FormatsOption, OutOption, SizeOption, TableFormat, TableOption, formats_of
from .report import progress, reported


def demo(
    out: OutOption = Path("tokenrank-out"),
    model: Annotated[str, typer.Option(help="Another model than the one that comes along.")] = "bundled",
    size: SizeOption = None,
    formats: FormatsOption = "png,pdf",
    table: TableOption = TableFormat.json,
) -> None:
    """The bundled model on the bundled photographs: no download, under a minute."""
    with reported():
        from .. import samples
        from .output import OutFolder, check_table_format, result_names, write_results

        forms = formats_of(formats)
        check_table_format(table)
        names = samples.names()
        folder = OutFolder(out, [file for name in names for file in result_names(forms, table, f"{name}-")])
        with progress(1 + len(names)) as report:
            report("model", "loading")
            from ..analysis import analyze
            from ..models import load
            from ..reading import observe

            loaded = load(model, kind="image")
            for name in names:
                analysis = analyze(
                    observe(samples.path(name), loaded, size=size),
                    start=samples.start(name),
                    progress=lambda stage, name=name: report(name, stage),  # type: ignore[misc]
                )
                report(name, "drawing")
                facts = {"picture": samples.path(name).name, "size": size}
                write_results(analysis, name, folder, forms, table, facts, f"{name}-")
