"""A text and where attention goes in it: one shaded line of tokens for every n and for TokenRank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ..analysis import Analysis
from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..markov.sinks import outshining
from ..token_text import has_right_to_left, is_right_to_left, joined, mirrored, readable
from .caption import SCALE_ROOM, caption, draw_scale, is_local, step_words, unit_words, wrapped, write_lines
from .glyphs import drawable, fonts, glyph_notes, laid_out, shortened
from .style import (
    COLUMN,
    FULL,
    INK,
    LINE,
    QUIET,
    SHADE,
    SMALL,
    TITLE,
    Ends,
    Scale,
    coloured,
    luminance,
    paper_style,
    scales,
    shares,
)
from .token_boxes import CAPITALS, PAD, SPACE, Box, Words, boxes_of, flow, widths

TYPE, DENSE = (7.0, 0.165), (6.0, 0.142)  # points of a token, inches of a line; the second where there are pages
LABEL, MARGIN, BLOCK_GAP, RIM = 0.86, 0.05, 0.09, 0.012  # inches
TALL, NARROW = 9.7, 5.0  # inches: the height of a page; below that width the scale stands above the caption
MOST = 20_000  # tokens drawn
LONGEST = 40  # characters of a token
DARKEST = 0.82  # of the colour map, so that the darkest shade is not black
SINK, HATCH, SHARE = "#6a3d9a", "#ded3ea", 5.0  # edge and number of a sink, its hatching, points of the number


@dataclass(frozen=True)
class _Row:
    """A map of the text: what it is called, a shade and a share a token, and which tokens are sinks."""

    title: str
    subtitle: str
    shades: npt.NDArray[np.float64]
    held: npt.NDArray[np.float64]
    sinks: npt.NDArray[np.bool_]
    framed: Sequence[bool]


@dataclass(frozen=True)
class _Plan:
    """Where everything stands, on every page."""

    rows: Sequence[_Row]
    texts: Sequence[str]
    pages: Sequence[Sequence[Box]]
    lines: int
    words: Sequence[float]
    size: float
    step: float
    width: float
    font: tuple[str, ...]
    notes: Sequence[str]
    ends: Ends | None
    count: int
    drawn: dict[Any, Any] = field(default_factory=dict)  # words that were drawn, for other pages


def text_figure(analysis: Analysis, width: float | None = None, scale: Scale = "each") -> Figure:
    """The text once for the start, for every n and for TokenRank forward and backward; the first page of a long one.

    Tokens are shaded; those where the walk starts are framed. Tokens that hold more than 30 % of a map, and twice an
    even share, are hatched, have their share written beside them and are left out of the colour scale, since nothing
    else would have a colour (``markov.sinks.outshining``). Texts that run from the right are set so, and their tokens
    stand in reading order. What no font here can draw becomes □, and the caption says so.

    Args:
        analysis: of a text.
        width: inches; the whole page by default, one column for texts that fit it on two lines.
        scale: "each" shades every map from its own 1st to its 99th percentile, so that shapes can be compared; "shared"
            all of them on one scale, with its numbers, so that amounts can.

    Raises:
        InputError: the analysis of a picture, or of tokens without strings; another scale.
    """
    plan = _plan(analysis, width, scale)
    return _page(plan, 0)


def text_pages(analysis: Analysis, width: float | None = None, scale: Scale = "each") -> list[Figure]:
    """All pages of ``text_figure``, which has the arguments: a text of 5,000 tokens takes about 25.

    Every page shows a part of the text in all maps, at most 9.7 inches high; ``view.save`` and ``view.render_pages``
    write them. Of texts with more than 20,000 tokens the first 20,000 are drawn, and the caption says so.
    """
    plan = _plan(analysis, width, scale)
    return [_page(plan, number) for number in range(len(plan.pages))]


def _plan(analysis: Analysis, width: float | None, scale: Scale) -> _Plan:
    if analysis.modality != "text" or not isinstance(analysis.source, tuple) or not analysis.source:
        cure = {"image": "; use bounces_figure", "audio": "; use sound_figure"}.get(analysis.modality, "")
        raise InputError(f"this analysis has no token strings, expected one of a text{cure}")
    found = readable(analysis.source[:MOST])
    spaced = [space for _, space in found]
    texts = joined([shortened(drawable(text), LONGEST) for text, _ in found], spaced)
    drawn = [laid_out(text) for text in texts]
    families = fonts("".join(texts))
    right_to_left = is_right_to_left(text for text, _ in found)
    rows, ends = _rows(analysis, scale)
    words = widths(drawn, FontProperties(family=list(families), size=TYPE[0]))
    beside = _room_for_shares(rows, len(texts))
    if width is None:
        natural = sum(words) + sum(beside) + len(words) * (2 * PAD + 2 * SPACE)
        width = COLUMN if natural <= 2 * (COLUMN - LABEL - MARGIN) else FULL
    room = width - LABEL - MARGIN
    notes = [*caption(analysis), unit_words(scale, "token", analysis.chain.num_tokens)]
    notes += ["framed: where the walk starts"] if any(map(any, (row.framed for row in rows))) else []
    if any(row.sinks.any() for row in rows):
        notes.append("hatched: holds over 30 % of its map, as written, and is left out of the colours")
    notes += glyph_notes(text for text, _ in found)
    if len(analysis.source) > MOST:
        notes.append(f"the first {MOST:,} of {len(analysis.source):,} tokens")
    for size, step in (TYPE, DENSE):
        words = [size / TYPE[0] * word for word in words] if size != TYPE[0] else words
        wide = [min(word + more + 2 * PAD, room) for word, more in zip(words, beside, strict=True)]
        boxes = flow(texts, wide, spaced, room, right_to_left)
        fit = int(((TALL - _foot(notes, width)[1] - LINE - MARGIN) / len(rows) - BLOCK_GAP) / step)
        if boxes[-1].line < fit:
            break
    count = boxes[-1].line + 1
    each = -(-count // -(-count // max(fit, 1)))  # pages of one length
    pages = [list(page) for _, page in groupby(boxes, lambda box: box.line // each)]
    return _Plan(rows, drawn, pages, each, words, size, step, width, families, notes, ends, len(analysis.source))


def _rows(analysis: Analysis, scale: Scale) -> tuple[list[_Row], Ends | None]:
    local = is_local(analysis)
    maps = [(f"n = {n}", step_words(n, local), bounced) for n, bounced in analysis.bounces.items()]
    maps += [("TokenRank", "forward", analysis.forward), ("TokenRank", "backward", analysis.backward)]
    begins = (analysis.start_values > 0).tolist()
    nowhere = [False] * len(begins)
    framed = begins if sum(begins) < len(begins) else nowhere
    values = [shown.values.double().cpu().numpy() for _, _, shown in maps]
    sinks = [outshining(shown.values).cpu().numpy() for _, _, shown in maps]
    ends = scales([of[~left] for of, left in zip(values, sinks, strict=True)], scale)
    rows = [
        _Row(title, subtitle, shares(of, end) * DARKEST, of, left, nowhere if title == "TokenRank" else framed)
        for (title, subtitle, _), of, left, end in zip(maps, values, sinks, ends, strict=True)
    ]
    return rows, ends[0] if scale == "shared" else None


def _room_for_shares(rows: Sequence[_Row], count: int) -> list[float]:
    """Inches beside a token for the share that it holds somewhere."""
    some = np.any([row.sinks for row in rows], axis=0)[:count]
    (room,) = widths(["100 %"], FontProperties(family=list(fonts()), size=SHARE))
    return [room + PAD if sink else 0.0 for sink in some]


def _foot(notes: Sequence[str], width: float) -> tuple[list[str], float]:
    """Lines of the caption, and the height of what stands below the text: the scale beside it, or above where it is
    narrow."""
    narrow = width < NARROW
    lines = wrapped(list(notes), width - 2 * MARGIN - (0 if narrow else SCALE_ROOM))
    return lines, 0.04 + (len(lines) + 2.5 if narrow else max(len(lines), 2)) * LINE + MARGIN


def _page(plan: _Plan, number: int) -> Figure:
    boxes = plan.pages[number]
    first, last = min(box.token for box in boxes), max(box.token for box in boxes)
    here = (
        ""
        if len(plan.pages) == 1
        else f"page {number + 1} of {len(plan.pages)}: tokens {first:,} to {last:,} of {plan.count:,}"
    )
    lines, foot = _foot([here, *plan.notes] if len(plan.pages) > 1 else plan.notes, plan.width)
    block = max(plan.lines * plan.step, 2 * LINE) + BLOCK_GAP
    height = MARGIN + len(plan.rows) * block + foot
    with paper_style():
        figure = ShownFigure(figsize=(plan.width, height))
        for place, row in enumerate(plan.rows):
            top = MARGIN + place * block
            axes = figure.add_axes((0, 1 - (top + block) / height, 1, block / height))
            axes.set(xlim=(0, plan.width), ylim=(block, 0))
            axes.set_axis_off()
            axes.text(MARGIN, TYPE[1] / 2, row.title, va="center", fontsize=TITLE)
            axes.text(MARGIN, TYPE[1] / 2 + LINE * 1.05, row.subtitle, va="center", fontsize=SMALL, color=QUIET)
            _draw(axes, plan, row, boxes)
        below, narrow = height - foot + 0.04, plan.width < NARROW
        right = MARGIN + 1.02 if narrow else plan.width - MARGIN
        write_lines(figure, lines, MARGIN, below + (2.5 * LINE if narrow else 0))
        draw_scale(figure, SHADE, right, below, DARKEST, plan.ends, plan.count)
    return figure


def _draw(axes: Axes, plan: _Plan, row: _Row, boxes: Sequence[Box]) -> None:
    tokens = [box.token for box in boxes]
    low = boxes[0].line
    places = np.array([(LABEL + b.left, (b.line - low) * plan.step + RIM, b.width, plan.step - 2 * RIM) for b in boxes])
    fills = coloured(row.shades[tokens], SHADE)
    sinks = row.sinks[tokens]
    framed = np.asarray(row.framed)[tokens]
    fills[sinks] = 1.0
    axes.add_collection(boxes_of(places, facecolors=fills, linewidths=0), autolim=False)
    if sinks.any():
        hatched = boxes_of(places[sinks], facecolors="white", edgecolors=HATCH, linewidths=0, hatch="/" * 5)
        axes.add_collection(hatched, autolim=False)
        axes.add_collection(boxes_of(places[sinks], facecolors="none", edgecolors=SINK, linewidths=0.6), autolim=False)
    if framed.any():
        frames = boxes_of(places[framed], facecolors="none", edgecolors=INK, linewidths=0.8)
        axes.add_collection(frames, autolim=False)
    light: list[tuple[str, float, float]] = []
    dark, numbers = light[:], light[:]
    for box, (left, top, wide, high), fill, sink in zip(boxes, places, fills, sinks, strict=True):
        base = top + high / 2 + CAPITALS / 2 * plan.size / 72
        word = plan.words[box.token]
        if sink:
            share = f"{row.held[box.token]:.0%}".replace("%", " %")
            numbers.append((share, left + PAD + word + PAD, top + high / 2 + CAPITALS / 2 * SHARE / 72))
            left += PAD
        else:
            left += (wide - word) / 2
        text = plan.texts[box.token]
        text = mirrored(text) if box.turned and not has_right_to_left(text) else text
        (light if luminance(fill) < 0.45 else dark).append((text, left, base))
    font = FontProperties(family=list(plan.font), size=plan.size)
    for words, colour in ((light, "white"), (dark, INK)):
        axes.add_artist(Words(words, font, colour, plan.drawn))
    axes.add_artist(Words(numbers, FontProperties(family=list(fonts()), size=SHARE, weight="bold"), SINK))
