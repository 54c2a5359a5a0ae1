"""What a layout says of itself: in a line, and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..errors import escaped
from ..html import note, panel, table

Grid: TypeAlias = "tuple[int, int] | tuple[int, int, int]"
"""(rows, columns) of a picture, (frames, rows, columns) of a video."""

SHOWN = 8  # token strings and indices that are told, of many
_LONGEST = 200  # characters of a name


class ShownLayout:
    """The part of ``TokenLayout`` that shows it."""

    if TYPE_CHECKING:
        spans: Mapping[str, int]
        grids: Mapping[str, Grid]
        tokens: tuple[str, ...] | None
        special: tuple[int, ...]
        order: tuple[int, ...] | None
        seconds: Mapping[str, tuple[float, float]]

        @property
        def num_tokens(self) -> int: ...  # noqa: D102
        def indices(self, name: str) -> list[int]: ...  # noqa: D102

    def __repr__(self) -> str:
        known = {"spans": dict(self.spans), "grids": dict(self.grids), "special": self.special}
        known |= {"seconds": dict(self.seconds)}
        told = [f"{name}={value!r}" for name, value in known.items() if value]
        told += [] if self.tokens is None else [f"tokens={_some(self.tokens)}"]
        told += [] if self.order is None else [f"order={_some(self.order)}"]
        return f"TokenLayout({', '.join(told)})"

    def _repr_html_(self) -> str:
        rows = [(name, " × ".join(map(str, self.grids.get(name, (n,)))), self._words_of(name))
                for name, n in self.spans.items()]  # fmt: skip
        special = f"special tokens: {', '.join(map(str, self.special[:SHOWN]))}" if self.special else ""
        more = f", … {len(self.special)} in all" if len(self.special) > SHOWN else ""
        order = "" if self.order is None else "the model keeps its tokens in an order of their own"
        return panel(f"TokenLayout of {self.num_tokens:,} tokens", table(rows), note(special + more), note(order))

    def _words_of(self, span: str) -> str:
        """What is known of a span's tokens: when they are, or their strings."""
        if span in self.seconds:
            begin, step = self.seconds[span]
            return f"{begin:g} to {begin + step * self.spans[span]:g} s, {step:g} s each"
        strings = [] if self.tokens is None else [self.tokens[i] for i in self.indices(span)]
        shown = " ".join(strings[:SHOWN])
        return shown + (f" … {len(strings)} in all" if len(strings) > SHOWN else "") if any(strings) else ""

    def __str__(self) -> str:
        spans = [
            f"{escaped(name, _LONGEST)} {' × '.join(map(str, self.grids.get(name, (n,))))}"
            for name, n in self.spans.items()
        ]
        return ", ".join(spans) + ("" if self.order is None else ", in an order of their own")


def _some(values: Sequence[object]) -> str:
    """The first of them, and how many there are."""
    if len(values) <= SHOWN:
        return repr(tuple(values))
    return f"({', '.join(map(repr, values[:SHOWN]))}, … {len(values)} in all)"
