"""Parquet shards of pictures: pyarrow, in the process apart. A group of rows is held at a time."""

from __future__ import annotations

from typing import Any

import pyarrow
from pyarrow import parquet

pyarrow.set_cpu_count(1)

_MOST_GROUPS = 1_000_000
_held: tuple[tuple[Any, ...], Any] | None = None


def describe(path: str, limit: int) -> tuple[dict[str, Any], list[Any]]:
    """Names of the columns, and the number of rows of every group."""
    with _open(path) as file:
        names = [str(name) for name in file.schema_arrow.names[:1_000]]
        if file.num_row_groups > _MOST_GROUPS:
            raise ValueError(f"it declares {file.num_row_groups:,} groups of rows, expected {_MOST_GROUPS:,} at most")
        return {"names": names, "groups": [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]}, []


def row(
    path: str, stamp: list[int], group: int, columns: list[str], place: int, rows: int, limit: int
) -> tuple[dict[str, Any], list[bytes]]:
    """One row: the bytes of the picture (an empty list where there are none), and its other values.

    ``stamp`` is size and time of the file: a group is held as long as they are the same.
    """
    global _held
    which = (path, *stamp, group, *columns)
    if _held is None or _held[0] != which:
        _held = None
        _held = which, _read(path, group, columns, rows, limit)
    values = dict(_held[1].slice(place, 1).to_pylist()[0])
    image = values.pop("image")
    data = image.get("bytes") if isinstance(image, dict) else image
    told = {name: _plain(value) for name, value in values.items()}
    return told, [data] if isinstance(data, bytes) else []


def _read(path: str, group: int, columns: list[str], rows: int, limit: int) -> Any:
    with _open(path) as file:
        names: list[str] = [name for name in ("image", "image.bytes") if name in _leaves(file)]
    # a picture that is stored once and stands in every row is held once
    with _open(path, names) as file:
        parts = file.metadata.row_group(group)
        wanted = [parts.column(i) for i in range(parts.num_columns)]
        wanted = [part for part in wanted if part.path_in_schema.split(".")[0] in columns]
        nbytes = sum(part.total_uncompressed_size for part in wanted)
        if any(part.total_uncompressed_size < 0 for part in wanted):
            raise ValueError("it declares fewer bytes than none")
        if nbytes > limit:
            raise MemoryError(nbytes, f"{rows:,} rows in one group; smaller groups take less")
        table = file.read_row_group(group, columns=columns, use_threads=False)
    if table.num_rows != rows:
        raise ValueError(f"it has {table.num_rows} rows, its index says {rows}")
    table.validate(full=True)
    return table


def _leaves(file: Any) -> list[str]:
    return [file.schema.column(i).path for i in range(min(len(file.schema), 1_000))]


def _open(path: str, dictionaries: list[str] | None = None) -> Any:
    return parquet.ParquetFile(
        path, memory_map=False, pre_buffer=False, page_checksum_verification=True, read_dictionary=dictionaries
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value[:100]]
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:200]
