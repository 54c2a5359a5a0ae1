"""Folder of a run: one run at a time, and files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import InputError, printable

LOCK = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block.

    The lock belongs to the open file, not to the file's being there: when the process ends, however it ends, the
    system frees it. Where Python has no ``fcntl`` (Windows) nothing is locked, and it is the caller who must not
    start two runs in one folder.

    Raises:
        InputError: another run holds it, or the file system has no locks.
    """
    fcntl = _fcntl()
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    try:
        file = open(path, "ab")  # noqa: SIM115 (closed below, by the second with)
    except OSError as error:
        raise InputError(
            f"cannot write {printable(path)}: {error.strerror or error}; choose another folder for the run"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is at work in {printable(folder)}; wait until it ends, or choose another folder"
            ) from None
        except OSError as error:
            raise InputError(
                f"{printable(path)} cannot be locked: {error.strerror or error}; choose a folder on a local disk"
            ) from error
        yield


def _fcntl() -> Any:
    try:
        return import_module("fcntl")
    except ImportError:  # Windows
        return None


UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step; a file that is there is replaced.

    The content is on the disk before it gets its name, and the name before this returns, so that neither a killed
    process nor a power failure leaves half a file under it.

    Raises:
        OSError: the system refuses; what was at ``path`` is still there, and nothing else is left.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written; only where no other process writes."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def refusal(path: Path, error: OSError, kept: str) -> InputError:
    """The error to raise where writing ``path`` failed; ``kept`` says what is safe."""
    cure = "free some space" if error.errno in _FULL else "see that the folder can be written"
    return InputError(
        f"cannot write {printable(path)}: {error.strerror or error}; {kept}; {cure}, then start the same run again: "
        "it goes on from there"
    )


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
