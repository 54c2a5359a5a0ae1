"""Rows on the disk: one parquet file a batch, and one for its failures."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line, printable, require
from ...files.whole import remove_unfinished, write_whole
from ...plain import parquet_bytes
from .folder import PARTS
from .work import Done

BROKEN = ".broken"
"""Added to the name of a part that cannot be read and whose images run again."""

_NAME = re.compile(r"(part|failures)-(\d{6,})\.parquet")


class Parts:
    """The finished batches of a run.

    ``part-000012.parquet`` holds the rows of batch 12, ``failures-000012.parquet`` its images that failed (columns
    key, error). Each is written in one step. Keys stand as UTF-8; of names that are none, odd bytes are escapes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / PARTS

    def tidy(self) -> list[str]:
        """Remove unfinished files and set broken parts aside; the new names of those. Under the run's lock only."""
        self.folder.mkdir(exist_ok=True)
        remove_unfinished(self.folder)
        aside = []
        for path in self._all():
            try:
                _read(path)
            except InputError:
                # kept, in case it can be rescued; images run again give the same rows
                target = path.with_name(path.name + BROKEN)
                path.replace(target)
                aside.append(target.name)
        return aside

    def write(self, done: Done) -> None:
        """Store a batch under the next number.

        Raises:
            OSError: the system refuses; earlier parts are as they were.
        """
        number = 1 + max((int(_NAME.fullmatch(path.name)[2]) for path in self._all()), default=-1)  # type: ignore[index]
        if done.rows:
            write_whole(self.folder / f"part-{number:06}.parquet", parquet_bytes(done.rows))
        if done.failures:
            rows = [{"key": key, "error": error} for key, error in done.failures.items()]
            write_whole(self.folder / f"failures-{number:06}.parquet", parquet_bytes(rows))

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

    def done(self) -> set[str]:
        """Keys of the images that have rows.

        Raises:
            InputError: an image stands in two parts.
        """
        keys: set[str] = set()
        for path in self._all("part"):
            found = set(_read(path, ["key"]).column("key").to_pylist())
            if twice := keys & found:
                raise InputError(
                    f"{printable(path)} holds image {printable(min(twice))}, which another part holds too; remove one "
                    "of the two"
                )
            keys |= found
        return keys

    def _table(self, kind: str) -> Any:
        pyarrow = require("pyarrow", "evaluate")
        tables = {path: _read(path) for path in self._all(kind)}
        if not tables:
            return None
        try:
            # what is an integer in one batch may be a float in the next, or missing throughout
            return pyarrow.concat_tables(tables.values(), promote_options="permissive")
        except pyarrow.ArrowException as error:
            names = ", ".join(path.name for path in list(tables)[:3])
            raise InputError(
                f"the parts {names} … do not fit together: {first_line(error)}; were they moved here?"
            ) from error

    def _all(self, kind: str = "") -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(
            (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.name.startswith(kind)),
            key=lambda path: (len(path.name), path.name),
        )


def _read(path: Path, columns: list[str] | None = None) -> Any:
    pyarrow, parquet = require("pyarrow", "evaluate"), require("pyarrow.parquet", "evaluate")
    try:
        table = parquet.read_table(io.BytesIO(path.read_bytes()), columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{printable(path)} cannot be read: {first_line(error)}; start the run again: it sets the file aside and "
            "runs its images anew"
        ) from error
    if "key" not in table.column_names:
        raise InputError(f"{printable(path)} has no column 'key' (it has {table.column_names}); it is not of a run")
    return table
