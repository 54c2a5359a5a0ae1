"""Plain values, as JSON and Parquet hold them, of arrays, tensors, mappings, sequences and text; rows as Parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from .errors import InputError, first_line, require


def plain(
    value: Any, *, digits: int | None = None, finite: bool = True, other: Callable[[Any], Any] | None = None
) -> Any:
    """The same in None, bool, int, float, str, lists, and dicts with keys of text.

    Args:
        value: NumPy arrays and torch tensors become lists, of their numbers; tuples too; text becomes ``utf8``.
        digits: significant ones that floats keep; all where None.
        finite: NaN and infinities, which JSON has not, become None.
        other: what becomes of values of any other type.

    Raises:
        InputError: a value of another type, where ``other`` is None.
    """
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return _number(value, digits, finite)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):  # members of an IntEnum too
        return int(value)
    if isinstance(value, str):
        return utf8(value)
    again = partial(plain, digits=digits, finite=finite, other=other)
    if isinstance(value, Mapping):
        return {utf8(str(name)): again(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [again(entry) for entry in value]
    if other is None:
        raise InputError(f"a {type(value).__name__} cannot be stored, expected numbers, text, lists or dicts of these")
    return other(value)


def utf8(text: str) -> str:
    """Text that UTF-8 can hold: what came from odd bytes of a file's name becomes escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def parquet_bytes(rows: Sequence[Mapping[str, Any]], notes: Mapping[str, str] | None = None) -> bytes:
    """A Parquet file of rows of plain values; a name that a row lacks is null there.

    Args:
        rows: their names are the columns, in the order in which they first come.
        notes: name → text, kept in the file's schema.

    Raises:
        InputError: a column holds several types. MissingExtraError: no pyarrow.
    """
    pyarrow, parquet = require("pyarrow", "evaluate"), require("pyarrow.parquet", "evaluate")
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
    except pyarrow.ArrowException as error:
        raise InputError(f"the rows cannot be stored: {first_line(error)}; a column holds one type") from error
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(notes), buffer)
    return buffer.getvalue()


def _number(value: float, digits: int | None, finite: bool) -> float | None:
    if not math.isfinite(value):
        return None if finite else value
    return value if digits is None else float(f"{value:.{digits}g}")
