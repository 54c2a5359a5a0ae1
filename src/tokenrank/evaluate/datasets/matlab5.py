"""MATLAB v5 files, as much of them as a cell array of structs with arrays of numbers: every length is held to bounds.

SciPy's parser ends the process on files whose checksum fits and whose inside does not. The format: 128 bytes of header,
then elements: type and length, 32 bits each, content, padding to 8 bytes. Type 15 is an element under zlib, 14 a
matrix, whose elements are its flags, dimensions, name and content. See "MAT-File Format" (MathWorks, 2024), level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...untrusted import budget

_MATRIX, _COMPRESSED, _TEXT, _INT32, _UINT32 = 14, 15, 1, 5, 6
_CELL, _STRUCT, _NUMBERS = 1, 2, range(6, 16)
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_COMPLEX = 0x0800
_NAMED_WITHIN = 4096  # bytes at the beginning of a matrix that hold its name
_MOST_DIMENSIONS = 32
_MOST_FIELDS = 4096


class MalformedError(ValueError):
    """The bytes are no such file; says where."""


@dataclass(frozen=True)
class _Bytes:
    """A stretch of memory that elements are read from, and the order of its bytes."""

    content: memoryview
    order: str
    place: int = 0

    def element(self, place: int, padded: bool = True) -> tuple[int, memoryview, int]:
        """Type and content of the element at ``place``, and where the next one is."""
        if place + 8 > len(self.content):
            raise MalformedError(f"it ends within an element at byte {place}")
        kind, length = struct.unpack_from(f"{self.order}II", self.content, place)
        if kind >> 16:  # type, length and up to four bytes in eight
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise MalformedError(f"a small element at byte {place} claims {length} bytes, expected 4 at most")
            return kind, self.content[place + 4 : place + 4 + length], place + 8
        end = place + 8 + length
        if end > len(self.content):
            raise MalformedError(
                f"an element at byte {place} claims {length} bytes, of which {len(self.content) - place - 8} are there"
            )
        return kind, self.content[place + 8 : end], end + (-length % 8 if padded else 0)


@dataclass(frozen=True)
class _Matrix:
    """A matrix: what stands before its content, and its content."""

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    inside: _Bytes
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def variables(data: bytes) -> Iterator[tuple[str, memoryview, str, bool]]:
    """Name, content, byte order and whether it is compressed of every matrix of a file, in its order.

    Raises:
        MalformedError: no MATLAB v5 file, or a broken one.
        zlib.error: a compressed part is broken.
    """
    if len(data) < 128:
        raise MalformedError(f"it has {len(data)} bytes, and the header alone 128")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise MalformedError("its header says no byte order")
    (version,) = struct.unpack_from(f"{order}H", data, 124)
    if version >> 8 != 1:
        raise MalformedError("it is of version 7.3 (HDF5)" if version >> 8 == 2 else f"it is of version {version >> 8}")
    whole = _Bytes(memoryview(data), order)
    place = 128
    while place < len(data):
        kind, content, place = whole.element(place, padded=data[place : place + 4] != struct.pack(f"{order}I", 15))
        if kind == _COMPRESSED:
            start = zlib.decompressobj().decompress(content, _NAMED_WITHIN)
            inner = _Bytes(memoryview(start), order)
            if len(start) < 8 or struct.unpack_from(f"{order}I", start)[0] != _MATRIX:
                raise MalformedError("a compressed element holds no matrix")
            yield _matrix(_Bytes(inner.content[8:], order)).name, content, order, True
        elif kind == _MATRIX:
            yield _matrix(_Bytes(content, order)).name, content, order, False


def unpacked(content: memoryview, order: str, name: str) -> memoryview:
    """The matrix in a compressed element; its length is held to the budget before it is made.

    Raises:
        InputError: it is too large; ``name`` is that of the file.
        MalformedError: it is longer or shorter than it says.
        zlib.error: it is broken; its checksum is compared.
    """
    (length,) = struct.unpack_from(f"{order}4xI", zlib.decompressobj().decompress(content, 8))
    budget.check(length + 8, name, f"its compressed part says so, of {len(content):,} bytes")
    stream = zlib.decompressobj()
    made = stream.decompress(content, length + 8)
    if len(made) < length + 8:
        raise MalformedError(f"a compressed matrix has {len(made)} bytes, expected {length + 8}")
    if stream.decompress(stream.unconsumed_tail, 1) or not stream.eof:
        raise MalformedError("a compressed matrix is longer than it says, or is cut off")
    return memoryview(made)[8:]


def cells(content: memoryview, order: str, field: str) -> list[npt.NDArray[np.generic]]:
    """The numbers in a field of every struct of a cell array, as stored, (rows, columns), in the order of the file.

    Raises:
        MalformedError: anything else.
    """
    cell = _matrix(_Bytes(content, order))
    if cell.kind != _CELL:
        raise MalformedError("it is not a cell array")
    if cell.size * 8 > len(content):
        raise MalformedError(f"a cell array of {cell.shape} claims more than there is")
    return [_numbers(_field(_matrix(part), field)) for part in _matrices(cell, cell.size)]


def _matrices(matrix: _Matrix, count: int) -> Iterator[_Bytes]:
    place = matrix.start
    for _ in range(count):
        kind, content, place = matrix.inside.element(place)
        if kind != _MATRIX:
            raise MalformedError(f"an element of type {kind} stands where a matrix is expected")
        yield _Bytes(content, matrix.inside.order)


def _matrix(inside: _Bytes) -> _Matrix:
    kind, flags, place = inside.element(0)
    if kind != _UINT32 or len(flags) != 8:
        raise MalformedError("a matrix has no flags")
    (first,) = struct.unpack_from(f"{inside.order}I", flags)
    kind, sides, place = inside.element(place)
    if kind != _INT32 or len(sides) % 4 or not 8 <= len(sides) <= 4 * _MOST_DIMENSIONS:
        raise MalformedError("a matrix has no dimensions")
    shape = struct.unpack(f"{inside.order}{len(sides) // 4}i", sides)
    if min(shape) < 0:
        raise MalformedError(f"a matrix has dimensions {shape}")
    kind, name, place = inside.element(place)
    if kind != _TEXT:
        raise MalformedError("a matrix has no name")
    return _Matrix(first & 0xFF, bool(first & _COMPLEX), shape, bytes(name).decode("latin-1"), inside, place)


def _field(matrix: _Matrix, field: str) -> _Matrix:
    if matrix.kind != _STRUCT or matrix.size != 1:
        raise MalformedError(f"a cell holds no single struct with {field}")
    kind, each, place = matrix.inside.element(matrix.start)
    if kind != _INT32 or len(each) != 4:
        raise MalformedError("a struct does not say how long its names are")
    (width,) = struct.unpack(f"{matrix.inside.order}i", each)
    kind, text, place = matrix.inside.element(place)
    if kind != _TEXT or width < 1 or len(text) % width or len(text) // width > _MOST_FIELDS:
        raise MalformedError("a struct has no names of fields")
    names = [bytes(text[k : k + width]).partition(b"\0")[0].decode("latin-1") for k in range(0, len(text), width)]
    if names.count(field) != 1:
        raise MalformedError(f"a struct has the fields {names[:5]}, expected {field}, once")
    after = _Matrix(matrix.kind, False, matrix.shape, "", matrix.inside, place)
    parts = list(_matrices(after, len(names)))
    return _matrix(parts[names.index(field)])


def _numbers(matrix: _Matrix) -> npt.NDArray[np.generic]:
    if matrix.kind not in _NUMBERS or matrix.is_complex:
        raise MalformedError("a segmentation is no array of numbers, expected numbers (rows, columns)")
    kind, stored, place = matrix.inside.element(matrix.start)
    dtype = _STORED.get(kind)
    if dtype is None:
        raise MalformedError(f"numbers are stored as type {kind}, which is none")
    wide = np.dtype(matrix.inside.order + dtype)
    if len(stored) != matrix.size * wide.itemsize:
        raise MalformedError(f"an array of {matrix.shape} has {len(stored)} bytes of {wide}")
    if place < len(matrix.inside.content):
        raise MalformedError("more follows in an array of numbers than its numbers")
    return np.frombuffer(stored, wide).reshape(matrix.shape, order="F")
