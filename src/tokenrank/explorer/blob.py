"""The bytes behind an index: slices of them, and both together as one file for a site of one's own (.trx)."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..errors import InputError

MAGIC, LINE = b"TRX1", 16
"""What a .trx begins with; its blob begins at a multiple of so many bytes."""


def cut(parts: Sequence[bytes], offset: int, length: int) -> bytes:
    """Bytes ``offset`` … ``offset + length`` of the blob that ``parts`` are, one after the other.

    Raises:
        InputError: beyond the blob.
    """
    ends = list(accumulate(map(len, parts)))
    total = ends[-1] if ends else 0
    if offset < 0 or length < 0 or offset + length > total:
        raise InputError(f"bytes {offset:,} to {offset + length:,} of a blob of {total:,}, expected a part of it")
    found = []
    for part, end in zip(parts, ends, strict=True):
        begin = end - len(part)
        found.append(memoryview(part)[max(0, offset - begin) : max(0, offset + length - begin)])
    return b"".join(found)


def as_json(index: Mapping[str, Any]) -> str:
    """The index in letters that every host takes: ASCII, whatever stands in a text, lone surrogates included.

    Without ``<``, so that it is safe inside a script of HTML.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(index, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def as_trx(index: Mapping[str, Any], parts: Sequence[bytes]) -> bytes:
    """Index and blob as one file, of which a page fetches ranges.

    ``TRX1``, the length of the JSON as uint32, the JSON, zeros to a multiple of 16, the blob.
    """
    text = as_json(index).encode("ascii")
    head = MAGIC + struct.pack("<I", len(text)) + text
    return b"".join([head, bytes(-len(head) % LINE), *parts])
