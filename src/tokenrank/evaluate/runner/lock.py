"""One run a folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import InputError, printable

NAME = "run.lock"


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
    path = folder / NAME
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
