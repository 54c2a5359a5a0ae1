"""Trail of an attention call: which of its tokens is which cell of which picture."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lost:
    """Tokens hold patches, and which is not known any more.

    Attributes:
        why: what they went through, in words.
    """

    why: str


LOST = Lost("several patches became one")
NOT_FOLLOWED = Lost("the capture began with layout=False, which follows none")
_MOST = 1024


@dataclass(frozen=True)
class Picture:
    """What one convolution made of a batch of pictures.

    Attributes:
        first: number of the first cell of the first picture.
        count: pictures in the batch.
        grid: (rows, columns), or (frames, rows, columns) of a video.
        source: number of the batch of pictures that it was cut from.
    """

    first: int
    count: int
    grid: tuple[int, ...]
    source: int = 0

    @property
    def area(self) -> int:
        """Cells of one picture."""
        return math.prod(self.grid)


@dataclass(frozen=True, eq=False)
class Trail:
    """Origins of the tokens of one attention call.

    Attributes:
        cells: (R, N) int64: the number of the cell that token n of row r was made of, −1 where it was made of none.
            Rows are the leading dimensions of the queries.
        pictures: of which the cells are, by their first number.
        leading: the dimensions that are rows here, 1 where all are alike; those of heads are among them.
    """

    cells: Tensor
    pictures: tuple[Picture, ...] = ()
    leading: tuple[int, ...] = (1,)

    @cached_property
    def key(self) -> bytes:
        """The same for trails that are the same but for the numbers at which pictures begin."""
        told = repr([self.leading, *((p.count, p.grid) for p in self.pictures)]).encode()
        return hashlib.blake2b(told + self._relative.numpy().tobytes()).digest()

    @cached_property
    def _relative(self) -> Tensor:
        """Cells numbered through the pictures that occur, from 0."""
        relative, begin = torch.full_like(self.cells, -1), 0
        for picture in self.pictures:
            size = picture.count * picture.area
            inside = (self.cells >= picture.first) & (self.cells < picture.first + size)
            relative = relative.where(~inside, self.cells - picture.first + begin)
            begin += size
        return relative.contiguous()

    @property
    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """(R, N) each: which of ``pictures``, which sample of its batch, which cell of its grid; −1 for no cell."""
        which, sample, cell = (torch.full_like(self.cells, -1) for _ in range(3))
        for number, picture in enumerate(self.pictures):
            inside = (self.cells >= picture.first) & (self.cells < picture.first + picture.count * picture.area)
            inner = self.cells - picture.first
            which = which.where(~inside, torch.as_tensor(number))
            sample = sample.where(~inside, inner // picture.area)
            cell = cell.where(~inside, inner % picture.area)
        return which, sample, cell


NO_PICTURE = Trail(torch.full((1, 1), -1, device="cpu"))
"""Of tokens that come from no picture that was seen."""


class Album:
    """All pictures that convolutions made, numbered one after the other.

    Two grids of one size that come from one picture are the same: a layer and the one that it is added to.
    """

    def __init__(self) -> None:
        self._pictures: list[Picture] = []
        self._sources: dict[tuple[int, int, tuple[int, ...]], Tensor] = {}
        self._next = 0

    def add(self, source: int, count: int, grid: tuple[int, ...]) -> Tensor:
        """Numbers of the cells of ``count`` pictures cut from ``source``, (count, 1, *grid)."""
        key = source, count, grid
        if key not in self._sources:
            if len(self._pictures) > _MOST:  # of a long run: what is old is over
                del self._pictures[: _MOST // 2]
                self._sources.clear()
            picture = Picture(self._next, count, grid, source)
            self._pictures.append(picture)
            begin, self._next = self._next, self._next + count * picture.area
            self._sources[key] = torch.arange(begin, self._next, device="cpu").view(count, 1, *grid)
        return self._sources[key]

    def source(self, cells: Tensor) -> int | None:
        """The one source of which all cells are."""
        trail = self.trail(cells.reshape(1, -1))
        sources = {p.source for p in trail.pictures} if isinstance(trail, Trail) else set()
        return sources.pop() if len(sources) == 1 else None

    def trail(self, tokens: Tensor) -> Trail | Lost:
        """Cells (…, N) with the pictures that they are of."""
        cells, leading = tokens.reshape(-1, tokens.shape[-1]), tuple(tokens.shape[:-1])
        known = cells[cells >= 0]
        if not known.numel():
            return NO_PICTURE
        low, high = int(known.min()), int(known.max())
        found = [
            p
            for p in self._pictures
            if p.first <= high
            and p.first + p.count * p.area > low
            and bool(((known >= p.first) & (known < p.first + p.count * p.area)).any())
        ]
        trail = Trail(cells.clone(), tuple(found), leading)
        if bool(((cells >= 0) & (trail.places[0] < 0)).any()):
            return Lost("patches of a picture of long ago")
        return trail
