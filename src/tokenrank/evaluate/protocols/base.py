"""Protocol: what is done with every image, and how the rows become the figures of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...errors import InputError, require
from ...models import Model
from ..datasets.sample import Dataset, Sample
from .shown import Shown

if TYPE_CHECKING:
    import pandas as pd

    from ..methods import NamedMethod

_TRIED = 16  # images read before a data set is given up


class Protocol(ABC):
    """One way to measure methods, fixed to the last threshold; options are the fields of a frozen dataclass.

    Attributes:
        name: as in ``find``.
        dataset: the data set that it is mostly used with, and ``dataset_options`` for opening it.
        needs: fields of ``Sample`` that it cannot do without.
        gives: what a method may ask for, of "nothing", "seed", "class" (the class is the predicted one).
    """

    name: ClassVar[str]
    dataset: ClassVar[str] = "folder"
    dataset_options: ClassVar[Mapping[str, Any]] = {}
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[frozenset[str]] = frozenset({"nothing", "class"})

    @property
    @abstractmethod
    def headline(self) -> str:
        """The column of the summary that methods are compared by."""

    @property
    def higher_is_better(self) -> bool:
        """Of the headline."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """The options, which a run that goes on must agree on."""
        return asdict(self) if is_dataclass(self) else {}

    def methods(self, text: str) -> tuple[NamedMethod, ...]:
        """What ``--methods`` means here: the methods of ``tokenrank.evaluate.methods``, unless overridden.

        Raises:
            NotFoundError: no such method. InputError: an option that it does not have, or one that asks for what
                this protocol does not give.
        """
        from ..methods import parse_methods

        found = parse_methods(text)
        self.check_methods(found)
        return found

    def check_methods(self, methods: Sequence[NamedMethod]) -> None:
        """Raise ``InputError`` for a method that asks for what the protocol does not give."""
        for method in methods:
            if method.asks not in self.gives:
                raise InputError(
                    f"method {method.name!r} asks for a {method.asks}, and protocol {self.name!r} gives none; leave it "
                    "out" + (", or use protocol 'seed'" if method.asks == "seed" else "")
                )

    def check(self, dataset: Dataset) -> None:
        """Read the first sample that can be read and see that it has what is needed.

        Raises:
            InputError: it has not; or it cannot be read.
        """
        if not dataset.keys:
            raise InputError(f"data set {dataset.name!r} has no images that can be used")
        for key in dataset.keys[:_TRIED]:
            try:
                sample = dataset.read(key)
            except InputError as error:  # one broken image is for the run to record
                broken = error
                continue
            return self.check_sample(sample, dataset.name)
        raise broken

    def check_sample(self, sample: Sample, where: str = "the data set") -> None:
        """Raise ``InputError`` where a field of ``needs`` is missing."""
        values = {field: getattr(sample, field) for field in self.needs}
        missing = [
            field for field, value in values.items() if value is None or (isinstance(value, tuple) and not value)
        ]
        if missing:
            raise InputError(
                f"sample {sample.key!r} of {where} has no {', no '.join(missing)}, which protocol {self.name!r} needs; "
                f"it is mostly used with {self.dataset!r}"
            )

    @abstractmethod
    def rows(self, model: Model, sample: Sample, methods: Sequence[NamedMethod]) -> list[dict[str, Any]]:
        """One row a method, of numbers and lists of numbers, with its name under "method".

        Raises:
            InputError: the sample or a map cannot be used.
        """

    def show(self, model: Model, sample: Sample, methods: Sequence[NamedMethod], place: int) -> Shown | None:
        """What one method found in a sample, as ``rows`` measures it; None where there is nothing that a picture shows.

        Args:
            model, sample, methods: as given to ``rows``; with the same random numbers it is the same that was measured.
            place: of the method among ``methods``.

        Raises:
            InputError: the sample or a map cannot be used.
        """
        return None

    @abstractmethod
    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Figures of the data set: one line a method, its name the index, in the order of the rows."""


if TYPE_CHECKING:
    import pandas as pd


def means(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns' means over images; an image without a figure (NaN) is left out of that column."""
    return rows.groupby("method", sort=False)[list(columns)].mean()


def sums(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns' sums over images."""
    return rows.groupby("method", sort=False)[list(columns)].sum()


def stacked(rows: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Method → a column of lists as one array, (images, length)."""
    lists = rows[column].to_numpy()
    groups = rows.groupby("method", sort=False).indices
    return {str(method): np.stack([np.asarray(lists[i]) for i in places]) for method, places in groups.items()}


def table(lines: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Method → figures as a frame with methods as its index."""
    pandas = require("pandas", "evaluate")
    frame = pandas.DataFrame(list(lines.values()), index=list(lines))
    return frame.rename_axis("method")


def present(rows: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Those of the columns that the rows have."""
    return [column for column in columns if column in rows.columns]
