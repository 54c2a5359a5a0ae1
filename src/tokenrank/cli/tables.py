"""An analysis as a file of numbers: json, or parquet where pyarrow is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..plain import parquet_bytes, plain
from .files import MAKER
from .options import TableFormat

if TYPE_CHECKING:
    from ..analysis import Analysis

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
    heads, tokens = analysis.table(), analysis.tokens()
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
