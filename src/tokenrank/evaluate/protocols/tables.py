"""From rows to one line a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import require

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
