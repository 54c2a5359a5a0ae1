"""The files that a command makes of an analysis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InputError, nearest
from .files import MAKER, OutFolder

if TYPE_CHECKING:
    from ..analysis import Analysis
    from .options import TableFormat

FORMATS = ("png", "pdf", "svg")


def formats_of(text: str) -> tuple[str, ...]:
    """``png,pdf`` as a tuple.

    Raises:
        InputError: another format, or none.
    """
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for form in found:
        if form not in FORMATS:
            raise InputError(f"no figure format {form!r}; {nearest(form, FORMATS)}")
    if not found:
        raise InputError(f"no figure format given, expected some of {', '.join(FORMATS)}")
    return found


def result_names(formats: Sequence[str], table: TableFormat, prefix: str = "") -> list[str]:
    """Names of the files of one analysis."""
    from .tables import table_names

    figures = [f"{figure}.{form}" for figure in ("bounces", "lambda2") for form in formats]
    return [prefix + name for name in (*figures, *table_names(table))]


def write_results(
    analysis: Analysis,
    out: OutFolder,
    formats: Sequence[str],
    table: TableFormat,
    facts: dict[str, Any],
    prefix: str = "",
) -> None:
    """Draw the figures, write them and the table, print the paths."""
    from ..view import bounces_figure, lambda2_figure, render, text_figure
    from .tables import table_files

    draw = bounces_figure if analysis.kind == "image" else text_figure
    figures = {"bounces": draw(analysis), "lambda2": lambda2_figure(analysis)}
    files = {f"{name}.{form}": render(figure, form, MAKER) for name, figure in figures.items() for form in formats}
    files |= table_files(analysis, table, facts)
    for name, content in files.items():
        path = out.write(prefix + name, content)
        typer.echo(os.fsencode(path))  # bytes, since a path need not be UTF-8
