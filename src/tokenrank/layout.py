"""Layouts of tokens: named spans, patch grids, special tokens, token strings, windows of a picture."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from .errors import LayoutError, NotFoundError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Grid: TypeAlias = "tuple[int, int] | tuple[int, int, int]"
"""(rows, columns) of a picture, (frames, rows, columns) of a video."""

Indices: TypeAlias = range

LayoutChoice: TypeAlias = "TokenLayout | Literal[False] | None"
"""A layout given by hand: False for none, None to find it."""

_AXES = {"x": "width", "y": "height", "t": "length"}


@dataclass(frozen=True)
class Point:
    """A place in the picture: fractions of its width (``x``) and height (``y``), from the top left.

    ``t`` is the fraction of a video's length, from its beginning; None for a picture.
    """

    x: float
    y: float
    t: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y), ("t", self.t)):
            if value is not None and not 0 <= value <= 1:
                frame, units = ("video", "frame numbers") if name == "t" else ("picture", "pixels")
                raise LayoutError(
                    f"point outside the {frame}: {name} = {value:g}, expected a fraction from 0 to 1; "
                    f"divide {units} by the {frame}'s {_AXES[name]}"
                )


def at(x: float, y: float, t: float | None = None) -> Point:
    """The point at fraction ``x`` of the width and ``y`` of the height, for ``chain.bounce``.

    In a video, at fraction ``t`` of its length.

    Example:
        >>> import tokenrank as tr
        >>> tr.at(0.9, 0.1)
        Point(x=0.9, y=0.1, t=None)
        >>> tr.TokenLayout.image(2, 2).token_at(tr.at(0.9, 0.1))  # after CLS, top right
        2
    """
    return Point(float(x), float(y), None if t is None else float(t))


@dataclass(frozen=True)
class TokenLayout:
    """Named spans that cover the tokens 0 … N−1, without gaps, one after the other unless an order is given.

    Args:
        spans: name → number of tokens, in the order of the sequence, such as
            ``{"cls": 1, "registers": 4, "image": 196}``. Spans of length 0 are dropped.
        grids: span name → (rows, columns) for spans that are a picture, (frames, rows, columns)
            for a video; in row-major order, the last axis fastest.
        tokens: one string per token, or None.
        special: indices of special tokens (CLS, SEP, BOS, padding), increasing.
        order: which token stands at each place of the spans, for models that keep their tokens in another order:
            ``order[k]`` is the index of the token that is k-th when the spans are read one after the other, pictures
            row by row. None where that is token k.

    Raises:
        LayoutError: a grid that does not fill its span, a number of strings that is not the number
            of tokens, special tokens out of range, twice or out of order, or an order that is no permutation.

    Example:
        >>> import tokenrank as tr
        >>> layout = tr.TokenLayout({"cls": 1, "registers": 4, "image": 6}, {"image": (2, 3)})
        >>> print(layout)
        cls 1, registers 4, image 2 × 3
        >>> layout.range("image")
        range(5, 11)
        >>> tr.TokenLayout.text(["a", "cat"]).tokens
        ('a', 'cat')
        >>> by_columns = tr.TokenLayout({"image": 4}, {"image": (2, 2)}, order=(0, 2, 1, 3))
        >>> by_columns.token_at(tr.at(0.9, 0.1))  # top right
        2
    """

    spans: Mapping[str, int]
    grids: Mapping[str, Grid] = field(default_factory=dict)
    tokens: tuple[str, ...] | None = None
    special: tuple[int, ...] = ()
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", {k: int(n) for k, n in self.spans.items() if n})
        object.__setattr__(self, "grids", {k: tuple(map(int, grid)) for k, grid in self.grids.items()})
        object.__setattr__(self, "special", tuple(map(int, self.special)))
        for name, count in self.spans.items():
            if count < 0:
                raise LayoutError(f"span {name!r} has {count} tokens, expected 0 or more")
        for name, grid in self.grids.items():
            self._check_grid(name, grid)
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(self.tokens))
            if len(self.tokens) != self.num_tokens:
                raise LayoutError(
                    f"{len(self.tokens)} token strings for {self.num_tokens} tokens; give one string a token"
                )
        self._check_special()
        self._check_order()

    @classmethod
    def image(cls, rows: int, columns: int, cls_tokens: int = 1, registers: int = 0) -> TokenLayout:
        """A vision transformer's sequence: CLS, registers, then the patches row by row."""
        spans = {"cls": cls_tokens, "registers": registers, "image": rows * columns}
        return cls(spans, {"image": (rows, columns)})

    @classmethod
    def video(cls, frames: int, rows: int, columns: int, cls_tokens: int = 0) -> TokenLayout:
        """A video transformer's sequence: CLS, then the patches frame by frame and row by row."""
        return cls({"cls": cls_tokens, "video": frames * rows * columns}, {"video": (frames, rows, columns)})

    @classmethod
    def text(cls, tokens: Sequence[str], special: Sequence[int] = ()) -> TokenLayout:
        """A text's sequence, with the indices of its special tokens."""
        return cls({"text": len(tokens)}, {}, tuple(tokens), tuple(special))

    def __str__(self) -> str:
        spans = [f"{name} {' × '.join(map(str, self.grids.get(name, (n,))))}" for name, n in self.spans.items()]
        return ", ".join(spans) + ("" if self.order is None else ", in an order of their own")

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens."""
        return sum(self.spans.values())

    def range(self, span: str) -> range:
        """Token indices of a span whose tokens follow each other.

        Raises:
            NotFoundError: no span of that name.
            LayoutError: the tokens of this layout have an order of their own.
        """
        if self.order is not None:
            raise LayoutError(
                f"the tokens of span {span!r} do not follow each other, since the model keeps its tokens in an order "
                f"of its own; take their indices, layout.indices({span!r}), which are row by row for a picture"
            )
        return self._places(span)

    def _places(self, span: str) -> Indices:
        """Places of a span when the spans are read one after the other."""
        begin = 0
        for name, count in self.spans.items():
            if name == span:
                return Indices(begin, begin + count)
            begin += count
        raise NotFoundError(f"no span {span!r} in this layout; {nearest(span, self.spans)}")

    def indices(self, name: str) -> list[int]:
        """Token indices of a span, of the ``"special"`` tokens, or of the ``"content"``: all others.

        Those of a picture are row by row, and increasing unless the layout has an order.

        Raises:
            NotFoundError: no span of that name; no special tokens known.
        """
        if name in self.spans:
            places = self._places(name)
            return list(places) if self.order is None else [self.order[place] for place in places]
        if name == "content":
            special = set(self.special)
            return [i for i in range(self.num_tokens) if i not in special]
        if name == "special" and self.special:
            return list(self.special)
        if name == "special":
            raise NotFoundError(
                "no special tokens are known in this layout; name them, TokenLayout(…, special=(0, …)), or give "
                "tr.capture the tokenizer"
            )
        raise NotFoundError(f"no tokens {name!r} in this layout; {nearest(name, [*self.spans, 'special', 'content'])}")

    @property
    def picture(self) -> str:
        """Name of the one span that has a grid: a picture or a video.

        Raises:
            LayoutError: no span has one, or several have.
        """
        if len(self.grids) != 1:
            found = "no span has a grid" if not self.grids else f"several spans have one: {list(self.grids)}"
            raise LayoutError(f"which tokens are the picture? {found}; pass the span's name or another layout")
        return next(iter(self.grids))

    def token_at(self, point: Point, span: str | None = None) -> int:
        """Index of the patch that holds ``point``.

        Args:
            point: a place in the picture; with ``t`` in a video of several frames.
            span: which picture, where there are several.

        Raises:
            LayoutError: no picture, or several; a time for a picture, or none for a video.
            NotFoundError: no span of that name.
        """
        span = span or self.picture
        places = self._places(span)
        if span not in self.grids:
            raise LayoutError(f"span {span!r} has no grid; spans with one: {list(self.grids)}")
        *frames, rows, columns = self.grids[span]
        frame = _cell(self._time(point, span), frames[0]) if frames else 0
        if not frames and point.t is not None:
            raise LayoutError(
                f"a point at the time t = {point.t:g}, but span {span!r} is a picture of {rows} × {columns} patches; "
                "leave t out"
            )
        place = places[(frame * rows + _cell(point.y, rows)) * columns + _cell(point.x, columns)]
        return place if self.order is None else self.order[place]

    def select(self, keep: Sequence[int]) -> TokenLayout:
        """The layout of the tokens ``keep`` (increasing indices); a span that loses a token loses its grid."""
        kept = set(keep)
        spans = {name: sum(i in kept for i in self.indices(name)) for name in self.spans}
        grids = {name: g for name, g in self.grids.items() if spans[name] == self.spans[name]}
        tokens = None if self.tokens is None else tuple(self.tokens[i] for i in keep)
        special = tuple(bisect_left(keep, i) for i in self.special if i in kept)
        order = None if self.order is None else tuple(bisect_left(keep, i) for i in self.order if i in kept)
        return TokenLayout(spans, grids, tokens, special, order)

    def after(self, span: str, string: str) -> TokenLayout:
        """The layout with one special token more before all others, a span of its own."""
        tokens = None if self.tokens is None else (string, *self.tokens)
        special = (0, *(i + 1 for i in self.special))
        order = None if self.order is None else (0, *(i + 1 for i in self.order))
        return TokenLayout({span: 1, **self.spans}, self.grids, tokens, special, order)

    def _time(self, point: Point, span: str) -> float:
        frames = self.grids[span][0]
        if point.t is None and frames > 1:
            raise LayoutError(
                f"a point without a time, but span {span!r} is a video of {frames} frames of patches; say when, "
                "tr.at(x, y, t) with t from 0 to 1"
            )
        return point.t or 0.0

    def _check_grid(self, name: str, grid: Grid) -> None:
        if len(grid) not in (2, 3):
            raise LayoutError(
                f"grid of span {name!r} is {grid}, expected (rows, columns) of a picture or (frames, rows, columns) "
                "of a video"
            )
        if self.spans.get(name) != math.prod(grid) or min(grid) < 1:
            axes = "frames × rows × columns" if len(grid) == 3 else "rows × columns"
            raise LayoutError(
                f"grid of span {name!r}: {' × '.join(map(str, grid))} = {math.prod(grid)} tokens, "
                f"but the span has {self.spans.get(name, 0)}; give {axes} that fill it"
            )

    def _check_special(self) -> None:
        special, count = self.special, self.num_tokens
        if any(not 0 <= i < count for i in special) or any(a >= b for a, b in pairwise(special)):
            raise LayoutError(
                f"special tokens {special} of {count} tokens, expected indices from 0 to {count - 1}, each once and "
                "increasing; give sorted(set(…))"
            )

    def _check_order(self) -> None:
        if self.order is None:
            return
        order = tuple(map(int, self.order))
        if sorted(order) != list(range(self.num_tokens)):
            raise LayoutError(
                f"order has {len(order)} indices, {len(set(order))} of them different, expected each of the "
                f"{self.num_tokens} tokens once, from 0 to {self.num_tokens - 1}"
            )
        object.__setattr__(self, "order", None if order == tuple(range(len(order))) else order)


@dataclass(frozen=True)
class Windows:
    """Where the tokens of an attention within windows stand in the picture.

    Attributes:
        index: (W, n) int64, a permutation of 0 … W·n − 1: index[w, i] is the token of the whole sequence
            at place i of window w.
        layout: of the whole sequence: the picture row by row (span "image"), then the places that were
            added to fill the last windows (span "padding"; the model attends to them).
        shift: (rows, columns) by which the picture was rolled back; None where the model names no shift.
        heads: of the attention, where its records have windows and heads in one dimension.
    """

    index: Tensor
    layout: TokenLayout
    shift: tuple[int, int] | None = None
    heads: int | None = None


def _cell(fraction: float, count: int) -> int:
    """Which of ``count`` equal parts of the unit interval holds a fraction."""
    return min(int(fraction * count), count - 1)
