"""Mapped: what ``tr.map`` found, in the order of the sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NotFoundError, nearest, require
from .work import VALUE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Mapped:
    """What a function returned of each source, by key; a ``Mapping`` of those that did not fail.

    Attributes:
        values: key → what the function returned, in the order of the sources. Out of a folder: its columns as a dict,
            or the value where it returned no mapping.
        failures: key → what went wrong.
        folder: of the parts; None where nothing was written.
    """

    values: Mapping[str, Any] = field(repr=False)
    failures: Mapping[str, str]
    folder: Path | None = None

    def __getitem__(self, key: str) -> Any:
        """What the function returned of a source.

        Raises:
            NotFoundError: no such source, or it failed; says with what.
        """
        if key in self.values:
            return self.values[key]
        if key in self.failures:
            raise NotFoundError(f"source {key!r} has no value: it failed with {self.failures[key]}")
        raise NotFoundError(f"no source {key!r}; {nearest(key, self.values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def frame(self) -> pd.DataFrame:
        """One row a source, in their order: column key, and those that the function returned, or "value".

        Raises:
            MissingExtraError: no pandas. InputError: the function returned a column "key".
        """
        pandas = require("pandas", "evaluate")
        if any(isinstance(value, Mapping) and "key" in value for value in self.values.values()):
            raise InputError("the function returned a column 'key', which names the source; take values, or rename it")
        rows = [{"key": k, **(v if isinstance(v, Mapping) else {VALUE: v})} for k, v in self.values.items()]
        return pandas.DataFrame(rows, columns=None if rows else ["key"])
