"""Whole files: there completely or not at all, whenever the process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""


def write_whole(path: str | os.PathLike[str], content: bytes | Callable[[Path], object]) -> None:
    """Write a file in one step; one that is there is replaced, and a link to it stays a link.

    The content is on the disk before it gets its name, and the name before this returns, so that neither a killed
    process nor a power failure leaves half a file under it. The permissions are those of any new file.

    Args:
        path: of the file; its folder exists.
        content: the bytes, or a function that writes them into a file that is there, empty, at the path that it
            is given. That name ends in ``UNFINISHED``: a format must not be told by the suffix.

    Raises:
        OSError: the system refuses; what was at ``path`` is still there, and nothing else is left. So it is after
            whatever ``content`` raises.
    """
    target = Path(os.path.realpath(path))
    # beside the target, so that renaming never crosses file systems; short, so that the name is never too long
    unfinished = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}{UNFINISHED}")
    mode = _create(unfinished)
    try:
        if callable(content):
            content(unfinished)
        else:
            unfinished.write_bytes(content)
        unfinished.chmod(mode)
        _sync(unfinished)
        unfinished.replace(target)
        _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written; only where no other process writes."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def _create(path: Path) -> int:
    """Make an empty file, nobody else's; the permissions that a new file has."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and orders renames by itself
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
