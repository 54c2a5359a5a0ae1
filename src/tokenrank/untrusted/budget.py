"""One budget for all readers: how many bytes a file may become, asked before they are allocated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import InputError

DEFAULT = 2**30
"""Bytes. A picture of 67 million pixels, six hours of speech or a thousand traces of a small network fit; none of the
bombs that were tried does, and two of them at once leave a laptop alive."""
VARIABLE = "TOKENRANK_MAX_BYTES"

_stated: ContextVar[int | None] = ContextVar("reading_budget", default=None)
_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@contextmanager
def reading_budget(max_bytes: int) -> Iterator[None]:
    """Inside the block, what is read from a file may take so many bytes; for one large file that is trusted.

    ::

        with tr.reading_budget(8 * 2**30):
            trace = tr.load_trace("large.npz")

    By default a file may take 1 GiB once it is decoded, or what it occupies on the disk where that is more: what is
    refused is a small file that becomes large. The environment variable ``TOKENRANK_MAX_BYTES`` (``8GiB``, or a number
    of bytes) says it for a whole process. A picture counts 16 bytes a pixel: four copies of four bytes, the most that
    turning it upright and making it opaque takes.

    Raises:
        InputError: ``max_bytes`` is no whole number above 0.
    """
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise InputError(f"max_bytes = {max_bytes!r}, expected a whole number of bytes above 0, such as 4 * 2**30")
    token = _stated.set(max_bytes)
    try:
        yield
    finally:
        _stated.reset(token)


def allowed(occupied: int = 0) -> int:
    """Bytes that something may take once it is read.

    Args:
        occupied: bytes of the disk that its file takes; counts only where nobody has stated a budget.

    Raises:
        InputError: the environment variable holds no number of bytes.
    """
    stated = _stated.get()
    if stated is not None:
        return stated
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return max(DEFAULT, occupied)
    match = re.fullmatch(r"([0-9]{1,18})\s*([A-Za-z]*)", text)
    number = int(match[1]) * _UNITS.get(match[2].upper(), 0) if match else 0
    if not number:
        raise InputError(
            f"{VARIABLE} is {text[:40]!r}, expected a number of bytes above 0, or one with KiB, MiB or GiB: 4GiB"
        )
    return number


def check(nbytes: int, name: str, how: str, occupied: int = 0) -> None:
    """Refuse what would take more than is allowed.

    Args:
        nbytes: that it takes once it is read.
        name: of the file, as an error shows it.
        how: where the number comes from: "3 arrays", "9,000 × 9,000 pixels".
        occupied: see ``allowed``.

    Raises:
        InputError: it is too large; with both numbers and the way to allow it.
    """
    limit = allowed(occupied)
    if nbytes > limit:
        raise InputError(
            f"{name} would take {readable(nbytes)} once read ({how}), expected {readable(limit)} at most{cure(nbytes)}"
        )


def cure(nbytes: int) -> str:
    """How to allow so many bytes, in words that end an error."""
    mebibytes = -(-nbytes // 2**20)
    return f"; if you trust it, set {VARIABLE}={mebibytes}MiB, or read it inside tr.reading_budget({mebibytes} * 2**20)"


def readable(nbytes: float) -> str:
    """A number of bytes in words: "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"
