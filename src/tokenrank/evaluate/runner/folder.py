"""Folder of a run: one run at a time in it, and ``run.json``, the record of what was run."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line, printable
from ...files.whole import write_whole

LOCK = "run.lock"
PARTS = "parts"
RECORD = "run.json"
FORMAT = 2
"""Of ``run.json`` and the rows beside it. It rises whenever the same settings may give other rows, so that no run has
rows of two kinds."""

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def make(folder: Path) -> None:
    """Make the folder where it is missing.

    Raises:
        InputError: it holds something else than a run, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a process killed at the very start leaves the lock, an unfinished record and an empty folder for parts
        others = [path for path in folder.iterdir() if path.name != LOCK and not path.name.startswith(f".{RECORD}.")]
        others = [path for path in others if path.name != PARTS or not path.is_dir() or any(path.iterdir())]
        if others and not (folder / RECORD).exists():
            raise InputError(
                f"{printable(folder)} holds other things than a run (it has no {RECORD}, but "
                f"{printable(min(others).name)}); choose a new or an empty folder"
            )
    except OSError as error:
        raise InputError(
            f"cannot write into {printable(folder)}: {error.strerror or error}; choose another folder for the run"
        ) from error


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


@contextmanager
def writing(path: Path, kept: str) -> Iterator[None]:
    """Inside the block, an ``OSError`` becomes an ``InputError`` that names ``path`` and says what is ``kept``."""
    try:
        yield
    except OSError as error:
        cure = "free some space" if error.errno in _FULL else "see that the folder can be written"
        raise InputError(
            f"cannot write {printable(path)}: {error.strerror or error}; {kept}; {cure}, then start the same run "
            "again: it goes on from there"
        ) from error


def read_record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` holds: format, settings, problems, runs and keys.

    Raises:
        InputError: there is none, it cannot be read, or it is of another ``FORMAT``.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{printable(folder)} is not the folder of a run: it has no {RECORD}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(path)} cannot be read: {first_line(error)}; restore it, or run anew") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{printable(folder)} holds a run of {'no format' if found is None else f'format {found}'}, expected "
            f"format {FORMAT}: another version of tokenrank wrote it, and its rows must not be mixed with those of "
            "this one; give another folder with --out, or delete this one"
        )
    missing = [name for name in ("settings", "problems", "runs", "keys") if name not in record]
    if missing:
        raise InputError(f"{printable(path)} lacks {', '.join(missing)}; restore it, or run anew")
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises:
        OSError: the system refuses.
    """
    write_whole(folder / RECORD, (json.dumps({"format": FORMAT, **record}, indent=1) + "\n").encode("ascii"))


def _fcntl() -> Any:
    try:
        return import_module("fcntl")
    except ImportError:  # Windows
        return None
