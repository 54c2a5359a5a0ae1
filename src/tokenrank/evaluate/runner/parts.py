"""Rows on the disk: one parquet file a batch, and one for its failures."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line, printable, require
from ...plain import parquet_bytes, plain
from ...workers import Done
from ...writing import remove_unfinished, write_whole
from .folder import PARTS

BROKEN = ".broken"
"""Added to the name of a part that cannot be read and whose images run again."""

TIMES = "tokenrank.times"
"""Note in the file of a batch's rows: what its images took, as JSON."""

_NAME = re.compile(r"(part|failures)-(\d{6,})-([0-9a-f]{16})\.parquet")
_ALIKE = re.compile(r"(part|failures)-.*\.parquet")
_RUN = "tokenrank.run"


class Parts:
    """The finished batches of a run.

    ``part-000012-DIGEST.parquet`` holds the rows of batch 12, ``failures-000012-DIGEST.parquet`` its images that failed
    (columns key, error). Each is written in one step; DIGEST, 16 hexadecimal digits, is that of its content, so that no
    changed bit is counted, and its notes say which run it is of and what its images took. Keys stand as UTF-8; of names
    that are none, odd bytes are escapes.

    Args:
        folder: of the run.
        run: what all its parts bear, from its settings (``digest_of_run``).
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self._run = folder / PARTS, run
        self._next: int | None = None  # read off the folder once: its listing grows with every part

    def tidy(self) -> list[str]:
        """Remove unfinished files, set aside what is no part of this run; its new names. Under the run's lock only."""
        self.folder.mkdir(exist_ok=True)
        remove_unfinished(self.folder)
        aside = []
        for path in self._all():
            try:
                self._read(path)
            except InputError:
                # kept, in case it can be rescued; images run again give the same rows
                target = _unused(path.with_name(path.name + BROKEN))
                path.rename(target)
                aside.append(target.name)
        return aside

    def write(self, done: Done) -> None:
        """Store a batch under the next number. One object writes in a folder at a time: that of the run's lock.

        Raises:
            OSError: the system refuses; earlier parts are as they were.
        """
        if self._next is None:
            names = (_NAME.fullmatch(path.name) for path in self._all())
            self._next = 1 + max((int(name[2]) for name in names if name), default=-1)
        number, self._next = self._next, self._next + 1
        self._write("part", number, done.rows, {TIMES: json.dumps(plain(done.times))})
        self._write("failures", number, [{"key": key, "error": error} for key, error in done.failures.items()], {})

    def _write(self, kind: str, number: int, rows: Sequence[Mapping[str, Any]], notes: Mapping[str, str]) -> None:
        if rows:
            content = parquet_bytes(rows, {_RUN: self._run, **notes})
            write_whole(self.folder / f"{kind}-{number:06}-{_digest(content)}.parquet", content)

    def rows(self) -> Any:
        """All rows in one table of pyarrow; None where there are none.

        Raises:
            InputError: a part that cannot be read, or that does not fit the others; an image that stands twice.
        """
        return self._table("part")

    def failures(self) -> dict[str, str]:
        """Key → what went wrong, the last time."""
        table = self._table("failures")
        return {} if table is None else dict(zip(*(table.column(n).to_pylist() for n in ("key", "error")), strict=True))

    def failed(self) -> set[str]:
        """Keys of the images that failed and have no rows, as far as parts can be read."""
        found: dict[str, set[str]] = {"part": set(), "failures": set()}
        for kind, keys in found.items():
            for path in self._all(kind):
                with contextlib.suppress(InputError):
                    keys |= set(self._read(path, ["key"]).column("key").to_pylist())
        return found["failures"] - found["part"]

    def times(self) -> list[dict[str, Any]]:
        """What images took, one entry an image; nothing of parts that have no times."""
        notes = (self._read(path, ["key"]).schema.metadata or {} for path in self._all("part"))
        return [entry for note in notes for entry in json.loads(note.get(TIMES.encode(), b"[]"))]

    def done(self) -> set[str]:
        """Keys of the images that have rows.

        Raises:
            InputError: an image stands in two parts.
        """
        keys: set[str] = set()
        for path in self._all("part"):
            found = set(self._read(path, ["key"]).column("key").to_pylist())
            if twice := keys & found:
                raise InputError(
                    f"{printable(path)} holds image {printable(min(twice))}, which another part holds too; remove one "
                    "of the two"
                )
            keys |= found
        return keys

    def _table(self, kind: str) -> Any:
        pyarrow = require("pyarrow", "evaluate")
        tables = {path: self._read(path) for path in self._all(kind)}
        if not tables:
            return None
        try:
            # what is an integer in one batch may be a float in the next, or missing throughout
            return pyarrow.concat_tables(tables.values(), promote_options="permissive")
        except pyarrow.ArrowException as error:
            names = ", ".join(path.name for path in list(tables)[:3])
            raise InputError(
                f"the parts {names} … do not fit together: {first_line(error)}. A column holds one type: "
                "mend what returns several, and start again with another folder"
            ) from error

    def _all(self, kind: str = "") -> list[Path]:
        """What is there under the name of a part, in order of its numbers."""
        if not self.folder.is_dir():
            return []
        alike = (path for path in self.folder.iterdir() if _ALIKE.fullmatch(path.name) and path.name.startswith(kind))
        return sorted(alike, key=lambda path: (len(path.name), path.name))

    def _read(self, path: Path, columns: list[str] | None = None) -> Any:
        pyarrow, parquet = require("pyarrow", "evaluate"), require("pyarrow.parquet", "evaluate")
        again = "start the run again: it sets the file aside and runs its images anew"
        name = _NAME.fullmatch(path.name)
        try:
            if path.is_symlink() or not path.is_file():
                raise InputError(f"{printable(path)} is no regular file, expected a part of the run; {again}")
            content = path.read_bytes()
            if name is None or name[3] != _digest(content):
                raise InputError(
                    f"{printable(path)} is not what was written (its content has the digest {_digest(content)}, "
                    f"expected the one in its name, {name[3] if name else 'which has none'}); {again}"
                )
            table = parquet.read_table(io.BytesIO(content), columns=columns)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{printable(path)} cannot be read: {first_line(error)}; {again}") from error
        of = (table.schema.metadata or {}).get(_RUN.encode(), b"none").decode("utf-8", "replace")
        if of != self._run:
            raise InputError(f"{printable(path)} is a part of run {printable(of)}, expected {self._run!r}; {again}")
        if "key" not in table.column_names:
            raise InputError(f"{printable(path)} has no column 'key' (it has {table.column_names}); {again}")
        return table


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _unused(path: Path) -> Path:
    """``path``, or where it is taken the first of path-2, path-3 …"""
    names = (path.with_name(f"{path.name}-{count}") for count in itertools.count(2))
    return path if not os.path.lexists(path) else next(name for name in names if not os.path.lexists(name))
