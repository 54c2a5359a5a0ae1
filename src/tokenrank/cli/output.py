"""Output of the commands: the folder they write to, tables of numbers, figures and labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .. import __version__
from ..errors import InputError, MissingExtraError, printable
from ..files.whole import write_whole
from ..plain import parquet_bytes, plain
from .options import FIGURES, TableFormat
from .report import note

MARK = "made by tokenrank"
MAKER = f"{MARK} {__version__}"
"""Stands in every file that a command writes, so that only such files are ever replaced."""


class OutFolder:
    """A folder for the files ``names``; checked before any work is done, made when the first is written.

    A file that is there already is replaced if a command of tokenrank made it (it then holds
    ``MARK``), and is an error otherwise.

    Raises:
        InputError: not a folder, not writable, or a file of another origin stands in the way.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path.expanduser()
        try:
            self._check(list(names))
        except (OSError, ValueError) as error:
            raise self._refusal(self.path, error) from error

    def write(self, name: str, content: bytes) -> Path:
        """Write a file as a whole or not at all.

        Raises:
            InputError: the system refuses.
        """
        path = self.path / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except (OSError, ValueError) as error:
            raise self._refusal(path, error) from error
        return path

    def _check(self, names: list[str]) -> None:
        nearest = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not nearest.is_dir():
            raise InputError(f"cannot write into {printable(self.path)}: {printable(nearest)} is a file; {_CURE}")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"cannot write into {printable(self.path)}: no permission in {printable(nearest)}; {_CURE}"
            )
        for name in names:
            if not _is_ours(self.path / name):
                raise InputError(
                    f"{printable(self.path / name)} exists and was not made by tokenrank; move it, or {_CURE}"
                )

    def _refusal(self, path: Path, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or str(error)
        return InputError(f"cannot write {printable(path)}: {reason}; {_CURE}")


_CURE = "choose another folder with --out"


def _is_ours(path: Path) -> bool:
    if not path.exists():
        return not path.is_symlink()
    return path.is_file() and MARK.encode() in path.read_bytes()


if TYPE_CHECKING:
    from ..analysis import Analysis
    from ..tasks.segmentation import Segmentation

DIGITS = 8  # a little more than single precision holds


def table_names(form: TableFormat) -> list[str]:
    """The files that ``table_files`` gives."""
    return ["table.json"] if form is TableFormat.json else ["table-heads.parquet", "table-tokens.parquet"]


def check_table_format(form: TableFormat) -> None:
    """Raise ``MissingExtraError`` where pyarrow is asked for and not installed."""
    if form is TableFormat.parquet and find_spec("pyarrow") is None:
        raise MissingExtraError(
            "parquet tables need pyarrow, which is not installed: pip install 'tokenrank[evaluate]' (or pyarrow alone)"
        )


def table_files(analysis: Analysis, form: TableFormat, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """File name → content: what was done, one row a layer and head, one row a token."""
    facts = {"maker": MAKER, **facts, **analysis.facts()}
    heads, tokens = analysis.table(), analysis.tokens_table()
    if form is TableFormat.json:
        return {"table.json": _json(facts, {"heads": heads, "tokens": tokens})}
    return {
        "table-heads.parquet": _parquet(heads, facts),
        "table-tokens.parquet": _parquet(tokens, facts),
    }


def _json(facts: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """One fact and one row a line, so that the file can be read and compared."""
    stated = plain(facts, digits=DIGITS)
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in stated.items())
    parts = [f'"analysis": {{\n{lines}\n}}']
    for name, rows in tables.items():
        lines = ",\n".join("  " + json.dumps(plain(row, digits=DIGITS)) for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode("ascii")


def _parquet(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> bytes:
    notes = {key: json.dumps(value) for key, value in plain(facts, digits=DIGITS).items()}
    return parquet_bytes(plain(rows, digits=DIGITS), notes)


def result_names(
    formats: Sequence[str], table: TableFormat, prefix: str = "", figures: Sequence[str] = FIGURES
) -> list[str]:
    """Names of the files that one analysis can give."""
    drawn = [f"{figure}.{form}" for figure in figures for form in formats]
    return [prefix + name for name in (*drawn, *table_names(table))]


def write_results(
    analysis: Analysis,
    name: str,
    out: OutFolder,
    formats: Sequence[str],
    table: TableFormat,
    facts: dict[str, Any],
    prefix: str = "",
) -> None:
    """Draw the figures, write them and the table; print the paths, and on stderr what was chosen.

    Args:
        name: of the picture or text, for stderr.
        facts: about it, for the table.
        prefix: of the files' names.
    """
    from ..view import bounces_figure, lambda2_figure, render, sound_figure, text_figure, words_figure

    draw = {"image": bounces_figure, "text": text_figure, "audio": sound_figure}[analysis.modality]
    figures = {"bounces": draw(analysis)}
    if analysis.modality == "audio" and analysis.observation.has_words:
        figures["words"] = words_figure(analysis.observation)
    figures["lambda2"] = lambda2_figure(analysis)
    files = {f"{figure}.{form}": render(drawn, form, MAKER) for figure, drawn in figures.items() for form in formats}
    files |= table_files(analysis, table, facts)
    for file, content in files.items():
        _print(out.write(prefix + file, content))
    note(f"{name}: {analysis.model}, {analysis.caption}")


def label_names(prefix: str) -> list[str]:
    """Names of the files of one segmentation: the overlay, the labels as an indexed png, COCO."""
    return [f"{prefix}.png", f"{prefix}-labels.png", f"{prefix}.json"]


def write_labels(segmentation: Segmentation, file_name: str, out: OutFolder, prefix: str) -> None:
    """Write the files of ``label_names``; print the paths, and on stderr what was chosen.

    Raises:
        InputError: more labels than an indexed png has; what fits is written before.
    """
    from ..tasks.segmentation import png_bytes

    overlay, labels, coco = label_names(prefix)
    makers = {
        overlay: lambda: png_bytes(segmentation.overlay(), MAKER),
        coco: lambda: segmentation.encoded(".json", file_name, MAKER),
        labels: lambda: segmentation.encoded(".png", maker=MAKER),
    }
    for name, make in makers.items():
        _print(out.write(name, make()))
    note(f"{file_name}: {segmentation.caption}; {segmentation.strength_words()}")


def _print(path: Path) -> None:
    typer.echo(os.fsencode(path))  # bytes, since a path need not be UTF-8
