"""Which token is what: named spans, patch grids, token strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import LayoutError, NotFoundError, nearest


@dataclass(frozen=True)
class Point:
    """A place in the picture: fractions of its width (``x``) and height (``y``), from the top left."""

    x: float
    y: float

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y)):
            if not 0 <= value <= 1:
                raise LayoutError(
                    f"point outside the picture: {name} = {value:g}, expected a fraction from 0 to 1; "
                    f"divide pixels by the picture's {'width' if name == 'x' else 'height'}"
                )


def at(x: float, y: float) -> Point:
    """The point at fraction ``x`` of the width and ``y`` of the height, for ``chain.bounce``."""
    return Point(float(x), float(y))


@dataclass(frozen=True)
class TokenLayout:
    """Named spans that cover the tokens 0 … N−1 in order, without gaps.

    Args:
        spans: name → number of tokens, in the order of the sequence, such as
            ``{"cls": 1, "registers": 4, "image": 196}``. Spans of length 0 are dropped.
        grids: span name → (rows, columns) for spans that are a picture, in row-major order.
        tokens: one string per token, or None.

    Raises:
        LayoutError: a grid that does not fill its span, or a number of strings that is not
            the number of tokens.
    """

    spans: Mapping[str, int]
    grids: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tokens: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", {k: int(n) for k, n in self.spans.items() if n})
        object.__setattr__(self, "grids", {k: (int(r), int(c)) for k, (r, c) in self.grids.items()})
        for name, count in self.spans.items():
            if count < 0:
                raise LayoutError(f"span {name!r} has {count} tokens, expected 0 or more")
        for name, grid in self.grids.items():
            if self.spans.get(name) != math.prod(grid):
                raise LayoutError(
                    f"grid of span {name!r}: {grid[0]} × {grid[1]} = {math.prod(grid)} tokens, "
                    f"but the span has {self.spans.get(name, 0)}; give rows × columns that fill it"
                )
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(self.tokens))
            if len(self.tokens) != self.num_tokens:
                raise LayoutError(
                    f"{len(self.tokens)} token strings for {self.num_tokens} tokens; give one string a token"
                )

    @classmethod
    def image(cls, rows: int, columns: int, cls_tokens: int = 1, registers: int = 0) -> TokenLayout:
        """A vision transformer's sequence: CLS, registers, then the patches row by row."""
        spans = {"cls": cls_tokens, "registers": registers, "image": rows * columns}
        return cls(spans, {"image": (rows, columns)})

    @classmethod
    def text(cls, tokens: Sequence[str]) -> TokenLayout:
        """A text encoder's sequence."""
        return cls({"text": len(tokens)}, {}, tuple(tokens))

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens."""
        return sum(self.spans.values())

    def range(self, span: str) -> range:
        """Token indices of a span.

        Raises:
            NotFoundError: no span of that name.
        """
        begin = 0
        for name, count in self.spans.items():
            if name == span:
                return range(begin, begin + count)
            begin += count
        raise NotFoundError(f"no span {span!r} in this layout; {nearest(span, self.spans)}")

    @property
    def picture(self) -> str:
        """Name of the one span that has a grid.

        Raises:
            LayoutError: no span has one, or several have.
        """
        if len(self.grids) != 1:
            found = "no span has a grid" if not self.grids else f"several spans have one: {list(self.grids)}"
            raise LayoutError(f"which tokens are the picture? {found}; pass the span's name or another layout")
        return next(iter(self.grids))

    def token_at(self, point: Point) -> int:
        """Index of the patch that holds ``point``."""
        span = self.picture
        rows, columns = self.grids[span]
        row = min(int(point.y * rows), rows - 1)
        column = min(int(point.x * columns), columns - 1)
        return self.range(span)[row * columns + column]

    def select(self, keep: Sequence[int]) -> TokenLayout:
        """The layout of the tokens ``keep`` (increasing indices); a span that loses a token loses its grid."""
        kept = set(keep)
        spans = {name: sum(i in kept for i in self.range(name)) for name in self.spans}
        grids = {name: g for name, g in self.grids.items() if spans[name] == self.spans[name]}
        tokens = None if self.tokens is None else tuple(self.tokens[i] for i in keep)
        return TokenLayout(spans, grids, tokens)
