"""Sequences put together from parts: so many tokens of this, then so many of that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...layout import Grid, TokenLayout
from .words import numbered


@dataclass(frozen=True)
class Part:
    """A run of tokens of one kind.

    Attributes:
        kind: name of its span, without the number that several of a kind get.
        count: how many tokens.
        grid: of a picture or video, where it is known.
    """

    kind: str
    count: int
    grid: Grid | None = None


def picture_part(grid: Grid) -> Part:
    """All patches of a picture, or of a video where the grid has frames."""
    return Part("video" if len(grid) == 3 else "image", math.prod(grid), grid)


def joined(parts: Iterable[Part]) -> TokenLayout:
    """The layout of the parts one after the other: "text", "image", "text_2", …"""
    spans: dict[str, int] = {}
    grids: dict[str, Grid] = {}
    seen: dict[str, int] = {}
    for part in parts:
        if not part.count:
            continue
        name = numbered(part.kind, seen.get(part.kind, 0))
        seen[part.kind] = seen.get(part.kind, 0) + 1
        spans[name] = part.count
        if part.grid is not None:
            grids[name] = part.grid
    return TokenLayout(spans, grids)


def total(parts: Sequence[Part]) -> int:
    """Tokens of all the parts."""
    return sum(part.count for part in parts)
