"""Layouts of tokens: named spans, patch grids, seconds, special tokens, token strings."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from ..errors import LayoutError, NotFoundError, nearest
from .place import Moment, Place, Point
from .shown import Grid, ShownLayout

Indices: TypeAlias = range

OneLayout: TypeAlias = "TokenLayout | Literal[False]"

LayoutChoice: TypeAlias = "OneLayout | Mapping[str, OneLayout] | None"
"""A layout given by hand: one for all layers, or one a name or glob of layers (the first that fits, so that encoder and
decoder have theirs); False for none, None to find it."""


@dataclass(frozen=True, repr=False)
class TokenLayout(ShownLayout):
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
        seconds: span name → (when its first token begins, seconds a token), for spans that are a sound: token k of
            the span is about ``begin + k · step`` to ``begin + (k + 1) · step``.

    Raises:
        LayoutError: a grid that does not fill its span, a number of strings that is not the number
            of tokens, special tokens out of range, twice or out of order, an order that is no permutation, or seconds
            of a span that is not there or that do not go on.

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
    seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

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
        self._check_seconds()

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

    @classmethod
    def audio(cls, frames: int, step: float, padding: int = 0) -> TokenLayout:
        """The frames of a sound, ``step`` seconds each, then those that only fill up the model's window."""
        return cls({"audio": frames, "padding": padding}, seconds={"audio": (0.0, step)})

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
            several, spans = list(self.grids), list(self.spans)
            found = f"several spans have one: {several}" if several else f"no span has a grid (spans: {spans})"
            raise LayoutError(f"which tokens are the picture? {found}; pass the span's name or another layout")
        return next(iter(self.grids))

    @property
    def sound(self) -> str:
        """Name of the one span whose tokens have seconds.

        Raises:
            LayoutError: no span has them, or several have.
        """
        if len(self.seconds) != 1:
            found = f"several spans have seconds: {list(self.seconds)}" if self.seconds else "no span has seconds"
            raise LayoutError(
                f"which tokens are the sound? {found} (spans: {list(self.spans)}); observe it with a model of tr.load, "
                "or give tr.TokenLayout.audio(frames, step)"
            )
        return next(iter(self.seconds))

    def times(self, span: str | None = None) -> list[float]:
        """When each token of a sound begins, in seconds, in the order of ``indices(span)``.

        Raises:
            LayoutError: no span with seconds, or several.
        """
        begin, step = self.seconds[span or self.sound]
        return [begin + k * step for k in range(self.spans[span or self.sound])]

    def token_at(self, place: Place, span: str | None = None) -> int:
        """Index of the patch or frame that holds ``place``.

        Args:
            place: a point of the picture, with ``t`` in a video of several frames; or a moment of the sound.
            span: which picture or sound, where there are several.

        Raises:
            LayoutError: no picture or sound, or several; a time for a picture, or none for a video; a moment after
                the sound's end.
            NotFoundError: no span of that name.
        """
        if isinstance(place, Moment):
            found = self._frame_at(place, span or self.sound)
        else:
            found = self._patch_at(place, span or self.picture)
        return found if self.order is None else self.order[found]

    def _frame_at(self, moment: Moment, span: str) -> int:
        places = self._places(span)
        if span not in self.seconds:
            raise LayoutError(f"span {span!r} has no seconds; spans with some: {list(self.seconds)}")
        begin, step = self.seconds[span]
        frame = math.floor((moment.seconds - begin) / step + 1e-9)  # 1.3 / 0.02 is a little less than 65
        if not 0 <= frame < len(places):
            raise LayoutError(
                f"moment {moment.seconds:g} s, but span {span!r} is from {begin:g} to {begin + len(places) * step:g} s"
            )
        return places[frame]

    def _patch_at(self, point: Point, span: str) -> int:
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
        return places[(frame * rows + _cell(point.y, rows)) * columns + _cell(point.x, columns)]

    def select(self, keep: Sequence[int]) -> TokenLayout:
        """The layout of the tokens ``keep`` (increasing indices).

        A span that loses a token loses its grid; one whose tokens no longer follow each other loses its seconds.
        """
        kept = set(keep)
        spans = {name: sum(i in kept for i in self.indices(name)) for name in self.spans}
        grids = {name: g for name, g in self.grids.items() if spans[name] == self.spans[name]}
        tokens = None if self.tokens is None else tuple(self.tokens[i] for i in keep)
        special = tuple(bisect_left(keep, i) for i in self.special if i in kept)
        order = None if self.order is None else tuple(bisect_left(keep, i) for i in self.order if i in kept)
        return TokenLayout(spans, grids, tokens, special, order, self._kept_seconds(kept))

    def _kept_seconds(self, kept: set[int]) -> dict[str, tuple[float, float]]:
        seconds = {}
        for name, (begin, step) in self.seconds.items():
            places = [k for k, i in enumerate(self.indices(name)) if i in kept]
            if places and places[-1] - places[0] == len(places) - 1:
                seconds[name] = begin + places[0] * step, step
        return seconds

    def after(self, span: str, string: str) -> TokenLayout:
        """The layout with one special token more before all others, a span of its own."""
        tokens = None if self.tokens is None else (string, *self.tokens)
        special = (0, *(i + 1 for i in self.special))
        order = None if self.order is None else (0, *(i + 1 for i in self.order))
        return TokenLayout({span: 1, **self.spans}, self.grids, tokens, special, order, self.seconds)

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

    def _check_seconds(self) -> None:
        seconds = {name: (float(begin), float(step)) for name, (begin, step) in self.seconds.items()}
        for name, (begin, step) in seconds.items():
            if name not in self.spans or not (math.isfinite(begin) and 0 < step < math.inf):
                raise LayoutError(
                    f"seconds of span {name!r}: ({begin:g}, {step:g}), expected (begin, seconds a token), the second "
                    f"above 0, of one of the spans {list(self.spans)}"
                )
        object.__setattr__(self, "seconds", seconds)


def _cell(fraction: float, count: int) -> int:
    """Which of ``count`` equal parts of the unit interval holds a fraction."""
    return min(int(fraction * count), count - 1)
