"""MATLAB v7.3 files of pictures and masks (HDF5): h5py, in the process apart.

No link to another file is followed, no external storage read; what is declared and not stored is an error.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np

_FIELDS = ("img", "gt", "id")
_COPIES = 3  # as stored, as read, transposed
_MOST_WORD = 1_000


def count(path: str, limit: int) -> tuple[dict[str, Any], list[Any]]:
    """Names in the root, and the number of entries of each field that is there."""
    with h5py.File(path, "r") as file:
        names = [str(name) for _, name in zip(range(100), file, strict=False)]
        value = _inside(file, "value") if "value" in file else None
        if not isinstance(value, h5py.Group):
            return {"names": names, "counts": {}}, []
        tables = {field: _dataset(value, field) for field in _FIELDS if field in value}
        size = Path(path).stat().st_size
        for field, table in tables.items():
            # the header of a picture takes 16 bytes at least
            if table.size * 16 > size:
                raise ValueError(f"/value/{field} declares {table.size:,} entries, more than {size:,} bytes can hold")
            _check_stored(table, f"/value/{field}", limit)
        return {"names": names, "counts": {field: int(table.size) for field, table in tables.items()}}, []


def entry(path: str, index: int, limit: int) -> tuple[dict[str, Any], list[bytes]]:
    """Picture, mask and word of an entry: shapes and types of two arrays, the word; their bytes."""
    with h5py.File(path, "r") as file:
        value = _inside(file, "value")
        pixels = _array(_behind(file, value, "img", index), "the picture", limit)
        cell = _array(_behind(file, value, "gt", index), "the cell of the mask", limit)
        mask = _array(file[cell.flat[0]], "the mask", limit - _COPIES * pixels.nbytes)
        word = _array(_behind(file, value, "id", index), "the word", limit)
    if word.size > _MOST_WORD or word.dtype.kind not in "ui":
        raise ValueError(f"the word is {word.dtype} of {word.size:,}, expected up to {_MOST_WORD:,} characters")
    text = "".join(chr(code) if 0 <= int(code) < 0xD800 else "\ufffd" for code in word.flat)
    arrays = [np.ascontiguousarray(array) for array in (pixels, mask)]
    for array in arrays:
        if array.dtype.kind not in "uifb":
            raise ValueError(f"an array is {array.dtype}, expected numbers")
    told = {"word": text, "arrays": [[array.dtype.str, list(array.shape)] for array in arrays]}
    return told, [array.tobytes() for array in arrays]


def _inside(group: Any, name: str) -> Any:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link to elsewhere, expected what it names in the file itself")
    return group[name]


def _dataset(group: Any, name: str) -> Any:
    table = _inside(group, name)
    if not isinstance(table, h5py.Dataset):
        raise ValueError(f"{name!r} is a {type(table).__name__}, expected a table")
    return table


def _behind(file: Any, value: Any, field: str, index: int) -> Any:
    """What the reference in a field's table leads to."""
    table = _dataset(value, field)
    # (count, 1), or (1, count) as some writers have it
    place = ((index, 0) if table.shape[0] > 1 else (0, index)) if table.ndim == 2 else index
    return file[table[place]]


def _array(table: Any, what: str, limit: int) -> Any:
    if not isinstance(table, h5py.Dataset):
        raise ValueError(f"{what} is a {type(table).__name__}, expected an array")
    if table.shape is None or not table.size:
        raise ValueError(f"{what} is empty")
    _check_stored(table, what, limit)
    return np.asarray(table[()])


def _check_stored(table: Any, what: str, limit: int) -> None:
    if table.is_virtual or table.external:
        raise ValueError(f"{what} lies in other files, expected it in this one")
    if any(not 0 <= int(side) < 2**40 for side in table.shape):
        raise ValueError(f"{what} declares {tuple(table.shape)} entries")
    nbytes = math.prod(map(int, table.shape)) * max(table.dtype.itemsize, 1)
    each = math.prod(map(int, table.chunks)) * max(table.dtype.itemsize, 1) if table.chunks else 0
    if max(_COPIES * nbytes, 2 * each) > limit:
        words = f"{what} declares {tuple(table.shape)} of {table.dtype}, in chunks of {each or nbytes:,} bytes"
        raise MemoryError(max(_COPIES * nbytes, 2 * each), words)
    stored = table.id.get_storage_size()
    missing = f"{what} declares {nbytes:,} bytes"
    if not table.chunks and stored < nbytes:
        raise ValueError(f"{missing}, of which {stored:,} are stored")
    if table.chunks:
        expected = math.prod(-(-int(n) // int(c)) for n, c in zip(table.shape, table.chunks, strict=True))
        if table.id.get_num_chunks() < expected:
            raise ValueError(f"{missing} in {expected:,} chunks, of which {table.id.get_num_chunks():,} are stored")
