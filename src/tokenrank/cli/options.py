"""Options that several commands share, and what they mean."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import InputError, nearest

MOST_BOUNCES = 10_000


class TableFormat(str, Enum):
    """How tables are written."""

    json = "json"
    parquet = "parquet"


Out = Annotated[
    Path,
    typer.Option(
        help="Folder for the results. Files of the same names are replaced if tokenrank made them.", show_default=True
    ),
]
Formats = Annotated[str, typer.Option(help="Formats of the figures: some of png,pdf,svg.")]
Table = Annotated[TableFormat, typer.Option(help="Format of the numbers; parquet needs pyarrow.")]
Layer = Annotated[
    str | None,
    typer.Option(help="Layer of the maps: its number from 0, or its name.", show_default="two thirds up the stack"),
]
Head = Annotated[str, typer.Option(help="lambda2: heads weighted by |λ2|; uniform; or the number of one head.")]
Bounces = Annotated[int, typer.Option(help="The largest n; up to four maps are shown, from n = 1 to this.")]
Alpha = Annotated[float, typer.Option(help="Probability of following attention in TokenRank, 0 to 1.")]
Size = Annotated[
    int | None, typer.Option(help="Long side in pixels that the model gets.", show_default="the model's own")
]


def head_of(text: str) -> Literal["lambda2", "uniform"] | int:
    """What ``--head`` means.

    Raises:
        InputError: neither a whole number nor one of the words.
    """
    if text == "lambda2":
        return "lambda2"
    if text == "uniform":
        return "uniform"
    try:
        return int(text)
    except ValueError:
        known = ("lambda2", "uniform")
        raise InputError(f"no head {text!r}; {nearest(text, known)}; or the number of a head") from None


def layer_of(text: str | None) -> str | int | None:
    """What ``--layer`` means: a whole number is a number."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text


def bounces_of(most: int) -> tuple[int, ...]:
    """Up to four numbers from 1 to ``most``, at equal ratios: 8 → 1, 2, 4, 8.

    Raises:
        InputError: below 1 or above 10,000.
    """
    if not 1 <= most <= MOST_BOUNCES:
        raise InputError(f"bounces = {most}, expected 1 to {MOST_BOUNCES:,}; TokenRank is the limit of infinitely many")
    return tuple(sorted({round(most ** (k / 3)) for k in range(4)}))
