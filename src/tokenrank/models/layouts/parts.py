"""Parts of a sequence, what a forward's arguments say of them, and how errors describe them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...errors import LayoutError
from ...layout import Grid, TokenLayout

Inputs: TypeAlias = Mapping[str, Any]
"""Argument name → tensor, ``torch.Size`` of a large float tensor, number or list; see ``Evidence.inputs``."""
ONE_SAMPLE = "capture one sample at a time"
_ROW, _COLUMN = 1, 2


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor that is kept, or of one of which only the shape is; None for anything else."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return tuple(value) if isinstance(value, torch.Size) else None


def shape(inputs: Inputs, *names: str) -> tuple[int, ...] | None:
    """The shape of the first of these arguments that is there."""
    return next((s for name in names if (s := shape_of(inputs.get(name))) is not None), None)


def whole_numbers(inputs: Inputs, name: str) -> Tensor | None:
    """An argument of whole numbers, on the CPU; None where it is not there or its numbers were not kept."""
    value = inputs.get(name)
    if not isinstance(value, Tensor) or value.is_meta or value.is_floating_point() or value.is_complex():
        return None
    return value.detach().cpu()


def agreeing_rows(ids: Tensor, what: str) -> Tensor:
    """The first of ``ids`` (B, N), which have to be alike in all samples.

    Raises:
        LayoutError: they differ.
    """
    rows = ids.reshape(-1, ids.shape[-1])
    if bool((rows != rows[0]).any()):
        other = int((rows != rows[0]).any(-1).nonzero()[0])
        raise LayoutError(
            f"{what} differ between the samples of the batch (0 and {other}), expected the same in all; {ONE_SAMPLE}"
        )
    return rows[0]


def picture_shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    """Shapes (B, C, H, W) of the floating-point arguments with one to four channels."""
    floats = [v for v in inputs.values() if not isinstance(v, Tensor) or v.is_floating_point()]
    shapes = [s for v in floats if (s := shape_of(v)) is not None]
    return [s for s in shapes if len(s) == 4 and 1 <= s[1] <= 4]


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
    there = [part for part in parts if part.count]
    named = list(zip(joined_names([part.kind for part in there]), there, strict=True))
    spans = {name: part.count for name, part in named}
    return TokenLayout(spans, {name: part.grid for name, part in named if part.grid is not None})


def joined_names(kinds: Sequence[str]) -> list[str]:
    """Names of spans of these kinds, one after the other: "text", "image", "text_2", …"""
    return [numbered(kind, kinds[:place].count(kind)) for place, kind in enumerate(kinds)]


def total(parts: Sequence[Part]) -> int:
    """Tokens of all the parts."""
    return sum(part.count for part in parts)


def parts_of_ids(ids: Tensor) -> list[Part]:
    """Pictures in position ids (N, 3 or 4): (picture or time, row, column, …), as FLUX takes them.

    A new picture begins where any number but row and column changes, as it does for reference pictures.
    A run whose rows and columns are not those of a full grid, row by row, has no grid.
    """
    ids = ids.double().cpu()
    others = [i for i in range(ids.shape[-1]) if i not in (_ROW, _COLUMN)]
    breaks = (ids[1:, others] != ids[:-1, others]).any(-1).nonzero().flatten() + 1
    return [_part(run) for run in torch.tensor_split(ids, breaks)] if len(ids) else []


def parts_of_shapes(shapes: Any) -> list[Part] | None:
    """Pictures in ``img_shapes``: for each sample (frames, rows, columns), or several of them.

    None where the samples differ or they are something else.
    """
    samples = [_triples(sample) for sample in shapes] if isinstance(shapes, list | tuple) else []
    if not samples or not samples[0] or any(sample != samples[0] for sample in samples):
        return None
    return [picture_part((r, c) if f == 1 else (f, r, c)) for f, r, c in samples[0]]


def ambiguous(num_tokens: int, readings: Sequence[TokenLayout]) -> LayoutError:
    """Several readings fit."""
    words = "; or ".join(describe(r) for r in readings)
    return LayoutError(f"ambiguous layout of {num_tokens} tokens: {words}; {CURE}")


def describe(layout: TokenLayout) -> str:
    """Counts and grids: "1 cls + 24 image, 4 × 6 patches"."""
    grid = "".join(f", {times(g)} patches" for g in layout.grids.values())
    return " + ".join(f"{n} {name}" for name, n in layout.spans.items()) + grid


CURE = (
    "say which token is what, trace.layout = tr.TokenLayout({name: count, …}, {name: (rows, columns)}), with order= "
    "where patches are not row by row, or layout= to capture (tr.check_layout shows where patches are), or False for "
    "none"
)
"""How to say it; never a layout that was not proved."""


def times(grid: Grid | tuple[int, ...]) -> str:
    """A grid in words: "4 × 6"."""
    return " × ".join(map(str, grid))


def numbered(name: str, place: int) -> str:
    """Span names of several of a kind: "image", "image_2", …, for ``place`` counted from 0."""
    return name if place == 0 else f"{name}_{place + 1}"


def _part(run: Tensor) -> Part:
    rows, columns = run[:, _ROW].unique(), run[:, _COLUMN].unique()
    full = torch.cartesian_prod(rows, columns).reshape(-1, 2)
    if full.shape[0] == len(run) and torch.equal(full, run[:, [_ROW, _COLUMN]]):
        return picture_part((len(rows), len(columns)))
    return Part("image", len(run))


def _triples(sample: Any) -> list[tuple[int, int, int]]:
    several = [sample] if isinstance(sample, list | tuple) and all(isinstance(n, int) for n in sample) else sample
    if not isinstance(several, list | tuple):
        return []
    return [tuple(s) for s in several if isinstance(s, list | tuple) and len(s) == 3]
