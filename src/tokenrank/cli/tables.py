"""An analysis as a file of numbers: json, or parquet where pyarrow is installed."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
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
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(_plain(value))}" for key, value in facts.items())
    parts = [f'"analysis": {{\n{lines}\n}}']
    for name, rows in tables.items():
        lines = ",\n".join("  " + json.dumps(_plain(row)) for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode("ascii")


def _parquet(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([_plain(row, text=_utf8) for row in rows])
    notes = {key: json.dumps(_plain(value)) for key, value in facts.items()}
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(notes), buffer)
    return buffer.getvalue()


def _plain(value: Any, text: Any = str) -> Any:
    """Floats rounded, what is not finite as None, texts as ``text`` makes them."""
    if isinstance(value, Mapping):
        return {key: _plain(entry, text) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, text) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return text(value) if isinstance(value, str) else value


def _utf8(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
