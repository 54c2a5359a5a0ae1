"""Results of an analysis as files: figures, and tables of numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .output import OutFolder, maker
from .report import note, print_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..analysis import Analysis
    from ..view.style import Scale

FIGURES = ("bounces", "lambda2")
"""What is drawn of every analysis."""

DIGITS = 8  # a little more than single precision holds


def table_names(form: str) -> list[str]:
    """The files that ``table_files`` gives."""
    return ["table.json"] if form == "json" else ["table-heads.parquet", "table-tokens.parquet"]


def check_table_format(form: str) -> None:
    """Raise ``MissingExtraError`` where pyarrow is asked for and not installed."""
    if form == "parquet" and find_spec("pyarrow") is None:
        raise MissingExtraError(
            "parquet tables need pyarrow, which is not installed: pip install 'tokenrank[evaluate]' (or pyarrow alone)"
        )


def table_files(analysis: Analysis, form: str, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """File name → content: what was done, one row a layer and head, one row a token.

    Args:
        facts: about the source, first of all its maker.
    """
    facts = {**facts, **analysis.facts()}
    heads, tokens = analysis.table(), analysis.tokens_table()
    if form == "json":
        return {"table.json": _json(facts, {"heads": heads, "tokens": tokens})}
    return {
        "table-heads.parquet": _parquet(heads, facts),
        "table-tokens.parquet": _parquet(tokens, facts),
    }


def result_names(stem: str, formats: Sequence[str], table: str, figures: Sequence[str] = FIGURES) -> list[str]:
    """Names of the files that one analysis can give."""
    drawn = [f"{figure}.{form}" for figure in figures for form in formats]
    return [f"{stem}-{name}" for name in (*drawn, *table_names(table))]


def figures_of(analysis: Analysis, figures: Sequence[str], scale: Scale = "each") -> dict[str, list[Figure]]:
    """Name → pages, those of ``figures`` that there are: a sound may have no words.

    Args:
        scale: of the maps.
    """
    from ..view import board_pages, bounces_figure, lambda2_figure, sound_figure, text_pages, words_figure

    observation = analysis.observation
    draw: dict[str, Callable[[], Sequence[Figure]]] = {
        "bounces": {
            "image": lambda: [bounces_figure(analysis, scale=scale)],
            "text": lambda: text_pages(analysis, scale=scale),
            "audio": lambda: [sound_figure(analysis, scale=scale)],
        }[analysis.modality],
        "words": lambda: [words_figure(observation)],
        "lambda2": lambda: [lambda2_figure(analysis)],
        "board": lambda: board_pages(observation, alpha=analysis.alpha, scale=scale),
    }
    silent = analysis.modality != "audio" or not observation.has_words
    return {name: list(draw[name]()) for name in figures if name != "words" or not silent}


def write_results(
    drawn: Mapping[str, Sequence[Figure]],
    tables: Mapping[str, bytes],
    stem: str,
    out: OutFolder,
    formats: Sequence[str],
    digest: str,
) -> None:
    """Write figures and tables, named after their source, and print the paths.

    Args:
        drawn: name → pages; of several a png or svg each, and one pdf.
        tables: see ``table_files``.
        stem: of the files' names.
        out: where they go.
        formats: of the figures.
        digest: of the source.
    """
    from ..view import page_names, render_pages

    files: dict[str, bytes] = {}
    for name, figures in drawn.items():
        for form in formats:
            pages = render_pages(figures, form, maker(digest))
            files |= dict(zip(page_names(name, form, len(pages)), pages, strict=True))
    for name, content in {**files, **tables}.items():
        print_path(out.write(f"{stem}-{name}", content, digest))


def chosen(name: str, analysis: Analysis) -> None:
    """Say on stderr what was read with what."""
    note(f"{name}: {analysis.model}, {analysis.caption}")


def _json(facts: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """One fact and one row a line, so that the file can be read and compared."""
    from ..plain import plain

    stated = plain(facts, digits=DIGITS)
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in stated.items())
    parts = [f'"analysis": {{\n{lines}\n}}']
    for name, rows in tables.items():
        lines = ",\n".join("  " + json.dumps(plain(row, digits=DIGITS)) for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode("ascii")


def _parquet(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> bytes:
    from ..plain import parquet_bytes, plain

    notes = {key: json.dumps(value) for key, value in plain(facts, digits=DIGITS).items()}
    return parquet_bytes(plain(rows, digits=DIGITS), notes)
