"""Tokens as shaded boxes with their text: how wide they are, where they stand, and two artists that draw thousands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ..token_text import reading_order

PAD, SPACE = 0.025, 0.028  # inches
ROUNDING = 0.02
FEW = 4  # lines of a text that are made equally long
CAPITALS = 0.73  # height of a capital letter, in sizes of the font
BREADTH = 288  # dots an inch that widths are measured with


@dataclass(frozen=True)
class Box:
    """Where a token stands: its number, its line, inches from the left; whether it is read from the right."""

    token: int
    line: int
    left: float
    width: float
    turned: bool


class Words(Artist):
    """Many short strings of one font and colour, drawn without an object for each.

    Where pixels are drawn, a string that stands in the figure many times is drawn once.
    """

    def __init__(
        self,
        words: Sequence[tuple[str, float, float]],
        font: FontProperties,
        colour: str,
        drawn: dict[tuple[str, float], _Stamp] | None = None,
    ) -> None:
        """Words are (text, left end, base line) in data coordinates; ``drawn`` is what others of this font drew."""
        super().__init__()
        self.words, self.font, self.colour = list(words), font, to_rgba(colour)
        self.drawn = {} if drawn is None else drawn
        self.set_zorder(3)

    def draw(self, renderer: RendererBase) -> None:  # noqa: D102
        if not self.words or not self.get_visible():
            return
        points = self.get_transform().transform([(x, y) for _, x, y in self.words])
        height = renderer.get_canvas_width_height()[1]
        context = renderer.new_gc()
        context.set_foreground(self.colour, isRGBA=True)
        for (text, _, _), (x, y) in zip(self.words, points, strict=True):
            if isinstance(renderer, RendererAgg):
                stamp = self._stamp(text, renderer.dpi)
                pixels = np.empty((*stamp.ink.shape, 4), np.uint8)
                pixels[..., :3] = np.round(255 * np.asarray(self.colour[:3]))
                pixels[..., 3] = stamp.ink
                renderer.draw_image(context, round(x) - stamp.left, round(y) - stamp.below, pixels)
            else:
                renderer.draw_text(context, x, height - y if renderer.flipy() else y, text, self.font, 0)
        context.restore()

    def _stamp(self, text: str, dpi: float) -> _Stamp:
        found = self.drawn.get((text, dpi))
        if found is None:
            size = self.font.get_size_in_points() * dpi / 72
            left, below = round(size / 2) + 1, round(size / 2) + 1  # letters may reach beyond their width
            probe = RendererAgg(1, 1, dpi)
            wide = probe.get_text_width_height_descent(text, self.font, False)[0]
            paper = RendererAgg(int(wide) + 2 * left + 2, below + round(1.6 * size) + 1, dpi)
            paper.draw_text(paper.new_gc(), left, paper.height - below, text, self.font, 0)
            found = _Stamp(np.asarray(paper.buffer_rgba())[::-1, :, 3].copy(), left, below)
            self.drawn[text, dpi] = found
        return found


@dataclass(frozen=True)
class _Stamp:
    """How dark each pixel of a word is, lowest row first, and where its base line begins, in pixels."""

    ink: npt.NDArray[np.uint8]
    left: int
    below: int


def boxes_of(places: npt.NDArray[np.float64], **look: Any) -> PolyCollection:
    """Boxes with round corners, from (left, top, width, height) each."""
    angles = np.linspace(0, np.pi / 2, 4)
    turns = [(0, 0, np.pi), (1, 0, 1.5 * np.pi), (1, 1, 0.0), (0, 1, 0.5 * np.pi)]
    corners = []
    for right, low, begin in turns:
        x = places[:, 0] + np.where(right, places[:, 2] - ROUNDING, ROUNDING)
        y = places[:, 1] + np.where(low, places[:, 3] - ROUNDING, ROUNDING)
        corners += [np.stack([x + ROUNDING * np.cos(begin + a), y + ROUNDING * np.sin(begin + a)], -1) for a in angles]
    return PolyCollection(list(np.stack(corners, 1)), **look)


def widths(texts: Sequence[str], font: FontProperties) -> list[float]:
    """Widths in inches, as they will be drawn."""
    renderer = FigureCanvasAgg(Figure(dpi=BREADTH)).get_renderer()
    known = {
        text: renderer.get_text_width_height_descent(text, font, False)[0] / BREADTH for text in dict.fromkeys(texts)
    }
    return [known[text] for text in texts]


def flow(
    texts: Sequence[str], wide: Sequence[float], spaced: Sequence[bool], room: float, right_to_left: bool
) -> list[Box]:
    """Boxes line by line, in reading order from the side where the text begins; a word moves to the next line as a
    whole where it fits there.

    Args:
        texts: of the tokens.
        wide: inches of each box.
        spaced: whether a space stands before it.
        room: inches of a line.
        right_to_left: of the paragraph.
    """
    boxes: list[Box] = []
    for number, line in enumerate(_even_lines(wide, spaced, room)):
        order = reading_order([texts[i] for i in line], right_to_left)
        placed, left, before = [], 0.0, -1
        for place, turned in order:
            token = line[place]
            if before >= 0:
                left += _gap(spaced[max(token, before)] or abs(token - before) > 1)
            placed.append(Box(token, number, left, wide[token], turned))
            left, before = left + wide[token], token
        indent = room - left if right_to_left else 0.0
        boxes += [replace(b, left=b.left + indent) for b in placed]
    return boxes


def _even_lines(wide: Sequence[float], spaced: Sequence[bool], room: float) -> list[list[int]]:
    """As few lines as there have to be; of a few none much shorter than the others."""
    lines = _lines(wide, spaced, room)
    low, high = 0.0, room
    while 1 < len(lines) <= FEW and high - low > SPACE:
        middle = (low + high) / 2
        tried = _lines(wide, spaced, middle) if middle >= max(wide) else []
        if len(tried) == len(lines):
            lines, high = tried, middle
        else:
            low = middle
    return lines


def _lines(wide: Sequence[float], spaced: Sequence[bool], room: float) -> list[list[int]]:
    lines: list[list[int]] = [[]]
    used = 0.0
    token = 0
    while token < len(wide):
        end = token + 1
        while end < len(wide) and not spaced[end]:
            end += 1
        word = sum(wide[token:end]) + (end - token - 1) * _gap(False)
        pieces = [range(token, end)] if word <= room else [range(i, i + 1) for i in range(token, end)]
        for piece in pieces:
            size = sum(wide[i] for i in piece) + (len(piece) - 1) * _gap(False)
            gap = _gap(spaced[piece[0]]) if lines[-1] else 0.0
            if lines[-1] and used + gap + size > room:
                lines.append([])
                used = gap = 0.0
            lines[-1] += piece
            used += gap + size
        token = end
    return lines


def _gap(space: bool) -> float:
    return SPACE if space else SPACE / 4
