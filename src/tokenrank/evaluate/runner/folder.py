"""Folder of a run: one run at a time in it, and ``run.json``, the record of what was run."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line, printable
from ...untrusted import read_text
from ...writing import cure, write_whole

LOCK = "run.lock"
PARTS = "parts"
RECORD = "run.json"
FORMAT = 3
"""Of ``run.json`` and the rows beside it. It rises whenever the same settings may give other rows, so that no run has
rows of two kinds."""

_ELSE = "choose another folder for the run"
_LOCKED = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def check(folder: Path) -> None:
    """Raise ``InputError`` where a folder that is there holds something else than a run, or a run of another format.

    Of settings nothing is known yet; this is for whoever wants to know before models are loaded.
    """
    if folder.is_dir():
        _check(folder)
        if (folder / RECORD).exists():
            read_record(folder)


def make(folder: Path) -> None:
    """Make the folder where it is missing.

    Raises:
        InputError: it holds something else than a run, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error) from error
    _check(folder)


def _check(folder: Path) -> None:
    for name in (RECORD, LOCK, PARTS):
        if (folder / name).is_symlink():
            raise InputError(f"{printable(folder / name)} is a link, which is not followed; remove it, or {_ELSE}")
    try:
        # a process killed at the very start leaves the lock, an unfinished record and an empty folder for parts
        others = [path for path in folder.iterdir() if path.name != LOCK and not path.name.startswith(f".{RECORD}.")]
        others = [path for path in others if path.name != PARTS or not path.is_dir() or any(path.iterdir())]
        if others and not (folder / RECORD).exists():
            raise InputError(
                f"{printable(folder)} holds other things than a run (it has no {RECORD}, but "
                f"{printable(min(others).name)}); choose a new or an empty folder"
            )
    except OSError as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot write into {printable(folder)}: {error.strerror or error}; {_ELSE}")


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
        # no link is followed, and a pipe is not waited on
        file = os.fdopen(os.open(path, _LOCKED | getattr(os, "O_CLOEXEC", 0), 0o666), "wb", buffering=0)
    except OSError as error:
        raise InputError(f"cannot write {printable(path)}: {error.strerror or error}; {_ELSE}") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(f"{printable(path)} is no regular file; remove it, or {_ELSE}")
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
        raise InputError(
            f"cannot write {printable(path)}: {error.strerror or error}; {kept}; {cure(error)}, then start the "
            "same run again: it goes on from there"
        ) from error


def read_record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` holds: format, settings, problems, runs, keys and contents.

    Raises:
        InputError: there is none, it cannot be read, or it is of another ``FORMAT``.
    """
    path = folder / RECORD
    if not os.path.lexists(path):
        raise InputError(f"{printable(folder)} is not the folder of a run: it has no {RECORD}")
    try:
        record = json.loads(read_text(path, "the record of a run"))
    except (InputError, ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} cannot be read: {first_line(error)}; restore it, or run anew") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{printable(folder)} holds a run of {'no format' if found is None else f'format {found}'}, expected "
            f"format {FORMAT}: another version of tokenrank wrote it, and its rows must not be mixed with those of "
            "this one; give another folder with --out, or delete this one"
        )
    kinds = {"settings": dict, "problems": dict, "runs": list, "keys": list, "contents": dict}
    missing = [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]
    if missing:
        raise InputError(f"{printable(path)} lacks {', '.join(missing)}; restore it, or run anew")
    stored = record.pop("digest", None)
    if stored != _digest(record):
        raise InputError(
            f"{printable(path)} is not what was written (it has the digest {_digest(record)}, expected the one that it "
            f"names, {stored}); restore it, or run anew"
        )
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises:
        OSError: the system refuses.
    """
    made = {**record, "format": FORMAT}
    text = json.dumps({"format": FORMAT, "digest": _digest(made), **record}, indent=1)
    write_whole(folder / RECORD, (text + "\n").encode("ascii"))


def _digest(record: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a record without its own digest."""
    text = json.dumps(record, sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _fcntl() -> Any:
    try:
        return import_module("fcntl")
    except ImportError:  # Windows
        return None
