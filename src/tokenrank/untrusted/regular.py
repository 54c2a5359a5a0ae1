"""Regular files only: a pipe, a device or a socket is refused at once, since reading it may never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, first_line, nearest_file, neighbours, printable
from .budget import check

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_WAITLESS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)


def check_regular(path: Path, what: str = "a file") -> os.stat_result:
    """Its status; nothing is opened.

    Args:
        path: of the file; links are followed.
        what: it should be, for the error: "a picture".

    Raises:
        InputError: it is missing, a folder, a pipe, a device, a socket, or empty.
    """
    name = printable(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        names = neighbours(path)
        if path.parent.is_dir():
            hint = nearest_file(path.name, names) if names else "its folder is empty"
        else:
            hint = f"there is no folder {printable(path.parent)} either"
        raise InputError(f"no file {name}; {hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{name} cannot be read: {reason}; give the path of {what}") from None
    check_kind(status, name, what)
    if status.st_size == 0:
        raise InputError(f"{name} is empty (0 bytes); the download or copy may have failed, fetch it again")
    return status


def check_kind(status: os.stat_result, name: str, what: str = "a file") -> None:
    """Raises InputError unless a status is that of a regular file; it may be empty."""
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a folder; give the path of one {what.partition(' ')[2]} in it")
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "something else")
        raise InputError(
            f"{name} is not a regular file but {kind}, which may never end; write what it gives into a file first, "
            f"and give the path of {what}"
        )


def open_regular(path: Path, what: str = "a file") -> BinaryIO:
    """An open file; the caller closes it.

    Raises:
        InputError: as ``check_regular``; the system refuses to open it.
    """
    check_regular(path, what)
    try:
        # what is opened may be another file by now: without waiting, and looked at again
        file = os.fdopen(os.open(path, os.O_RDONLY | _WAITLESS | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be read: {error.strerror or first_line(error)}; give the path of {what} that "
            "you may read"
        ) from None
    try:
        check_kind(os.fstat(file.fileno()), printable(path), what)
    except InputError:
        file.close()
        raise
    return file


def occupied(status: os.stat_result) -> int:
    """Bytes of the disk that a file takes; of a file with holes fewer than its size."""
    blocks = getattr(status, "st_blocks", None)  # of 512 bytes; Windows has none
    return status.st_size if blocks is None else min(512 * int(blocks), status.st_size)


def read_bytes(path: Path, what: str = "a file", cost: int = 1) -> bytes:
    """All bytes of a file, within the budget.

    Args:
        path: of the file.
        what: it should be, for the error.
        cost: bytes of memory that each byte of it becomes, at most.

    Raises:
        InputError: as ``open_regular``; it is too large.
    """
    with open_regular(path, what) as file:
        status = os.fstat(file.fileno())
        check(cost * status.st_size, printable(path), f"{status.st_size:,} bytes", occupied(status))
        try:
            return file.read(status.st_size)
        except OSError as error:
            raise InputError(
                f"{printable(path)} cannot be read: {error.strerror or first_line(error)}; copy it to a disk that works"
            ) from None


def read_text(path: Path, what: str = "a text", cost: int = 8) -> str:
    """A text in UTF-8, with or without its mark, within the budget; see ``read_bytes``.

    Raises:
        InputError: it is no UTF-8, too, or holds more than one may.
    """
    try:
        return read_bytes(path, what, cost).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} cannot be read as UTF-8 text: {first_line(error)}") from None
