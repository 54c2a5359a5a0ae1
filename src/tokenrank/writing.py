"""Whole files: there completely or not at all, whenever the process ends, and where they were meant."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from .errors import InputError, first_line, printable

UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""

_OURS = re.compile(rf"\..*\.[0-9a-f]{{16}}{re.escape(UNFINISHED)}", re.DOTALL)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0)


def write_whole(
    path: str | os.PathLike[str], content: bytes | Callable[[Path], object], *, follow: bool = False
) -> None:
    """Write a file in one step; one that is there is replaced.

    The content is on the disk before it gets its name, and the name before this returns, so that neither a killed
    process nor a power failure leaves half a file under it. Until then it lies under a random name that nobody had,
    and bytes go through the descriptor that made it, so that a link put there is never written through. The
    permissions are those of any new file.

    Args:
        path: of the file; its folder exists.
        content: the bytes, or a function that writes them into a file that is there, empty, at the path that it
            is given. That name ends in ``UNFINISHED``: a format must not be told by the suffix.
        follow: where ``path`` is a symbolic link, write the file that it leads to, and it stays a link. Otherwise
            links are refused.

    Raises:
        OSError: the system refuses, or a link is in the way; what was at ``path`` is still there, and nothing else is
            left. So it is after whatever ``content`` raises.
    """
    target = Path(os.path.realpath(path) if follow else path)
    if target.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(target))
    # beside the target, so that renaming never crosses file systems; short, so that the name is never too long
    unfinished = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}{UNFINISHED}")
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _UNFOLLOWED | _BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if not callable(content):
                _put(file.fileno(), content)
        if callable(content):
            content(unfinished)
            unfinished.chmod(mode)
            _sync(unfinished)
        unfinished.replace(target)
        _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def save_whole(path: str | os.PathLike[str], content: bytes | Callable[[Path], object]) -> None:
    """``write_whole`` where a user names the file: a link of theirs is followed, and errors are sentences.

    Raises:
        InputError: no such folder, a folder in the file's place, a full disk …; what was there is still there.
    """
    name, folder = printable(path), Path(path).parent
    if not folder.is_dir():
        raise InputError(f"cannot write {name}: no folder {printable(folder)}; make it first")
    if Path(path).is_dir():
        raise InputError(f"cannot write {name}: it is a folder; give the name of a file")
    try:
        write_whole(path, content, follow=True)
    except OSError as error:
        raise InputError(f"cannot write {name}: {error.strerror or first_line(error)}; {cure(error)}") from error


def cure(error: OSError) -> str:
    """What helps where a file cannot be written."""
    return "free some space" if error.errno in _FULL else "see that the folder can be written"


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written; only where no other process writes."""
    for path in folder.iterdir():
        # regular files of our names alone: what a user called so, a link or a folder, is none of ours
        if _OURS.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
            path.unlink(missing_ok=True)


def _put(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | _UNFOLLOWED | _BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
