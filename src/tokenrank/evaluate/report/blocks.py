"""Blocks that a report is made of, before it is Markdown or HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..statistics import Interval
from .examples import Example


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text; a quiet one explains what stands above it."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Caution:
    """What a reader must know before the numbers."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the rows, all others are set as numbers where ``numbers``."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True


@dataclass(frozen=True)
class Facts:
    """Short facts, a name and a value each."""

    title: str
    columns: tuple[str, str]
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dots:
    """Estimates with their intervals, one a row, drawn beside their numbers.

    Attributes:
        title: of the table.
        columns: the name's, the drawing's, and those of the cells.
        names, found, cells: of the rows; found is None where there is nothing to draw.
        hollow: the row that the others are compared with.
        zero: whether a line is drawn at zero.
        drawing: the name of the same as a figure, which Markdown shows.
        caption: what it shows.
    """

    title: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    found: tuple[Interval | None, ...]
    cells: tuple[tuple[str, ...], ...]
    hollow: int | None
    zero: bool
    drawing: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Examples of one method, best first."""

    name: str
    examples: tuple[Example, ...]


Block: TypeAlias = Heading | Paragraph | Caution | Table | Facts | Dots | Gallery
