"""Pictures cut into cells: by convolutions and pools, and into windows around every cell."""

from __future__ import annotations

import math
import weakref
from typing import Any

from torch import Tensor

from ..quiet import Unnoticed
from . import moves
from .trail import Album, Lost

Cells = Tensor | Lost


class Cutter:
    """Makes the cells of what convolutions return, in an album."""

    def __init__(self, album: Album) -> None:
        self._album = album
        self._sources: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._count = 0

    def clear(self) -> None:
        """Forget all pictures."""
        self._sources.clear()

    def convolved(self, name: str, source: Tensor, cells: Cells | None, out: Tensor) -> Cells | None:
        """A picture is cut anew by what moves a window over it; maps of patches that are not in order are lost."""
        grid = tuple(map(int, out.shape[2:]))
        begins = name.startswith("conv")
        if isinstance(cells, Lost) or (cells is None and not begins):
            return cells
        if out.ndim not in (4, 5) or (begins and cells is None and math.prod(grid) == 1):
            return Lost("patches that were cut outside of the model")
        if cells is not None and source.shape[2:] == out.shape[2:] and moves.is_arranged(cells, grid):
            return cells
        return self._cut(name, source, cells, int(out.shape[0]), grid)

    def _cut(self, name: str, source: Tensor, cells: Tensor | None, count: int, grid: tuple[int, ...]) -> Cells:
        """A picture, or a map whose patches are row by row, in cells of another size."""
        with Unnoticed():
            if cells is None:
                return self._album.add(self._source(source), count, grid)
            number = self._album.source(cells) if moves.is_in_order(cells) else None
            if number is None or cells.shape[0] not in (1, count):
                return Lost(f"{name} of a map whose patches are not row by row")
            return self._album.add(number, count, grid)

    def _source(self, picture: Tensor) -> int:
        """The number of a batch of pictures, of which there may be several convolutions."""
        entry = self._sources.get(id(picture))
        if entry is None or entry[0]() is not picture:
            self._count += 1
            entry = self._sources[id(picture)] = weakref.ref(picture), self._count
        return entry[1]

    def windows(self, name: str, args: Any, kwargs: dict[str, Any], cells: Cells | None, out: Tensor) -> Cells | None:
        """``unfold`` and ``fold``: a window around every cell of a map, and back."""
        names = ("input", "kernel_size", "dilation", "padding", "stride")
        back = name in ("fold", "col2im")
        given = dict(zip(("input", "output_size", *names[1:]) if back else names, args, strict=False)) | kwargs
        source = given["input"]
        if not isinstance(cells, Tensor):
            return cells
        size = given["output_size"] if back else source.shape[2:]
        rows, columns = (
            (s + 2 * p - d * (k - 1) - 1) // stride + 1
            for s, k, d, p, stride in zip(
                *(_pair(v) for v in (size, given["kernel_size"], given.get("dilation", 1), given.get("padding", 0),
                                     given.get("stride", 1))), strict=True)
        )  # fmt: skip
        if not back:
            return moves.flat(self._cut("unfold", source, cells, int(out.shape[0]), (rows, columns)))
        if cells.ndim != 3 or cells.shape[1] != 1 or cells.shape[2] != rows * columns:
            return Lost("fold")
        return self._cut("fold", source, cells.unflatten(2, (rows, columns)), int(out.shape[0]), _pair(size))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))
