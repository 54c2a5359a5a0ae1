"""A text and where attention goes in it: one shaded line of tokens for every n and for TokenRank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch

from ..analysis import Analysis
from ..errors import InputError
from .caption import SCALE_ROOM, caption, draw_scale, is_local, step_words, wrapped, write_lines
from .style import (
    COLUMN,
    FULL,
    INK,
    LINE,
    QUIET,
    SHADE,
    SMALL,
    TITLE,
    coloured,
    fonts,
    luminance,
    paper_style,
    readable_tokens,
    scaled,
    shortened,
)

SIZE = 7.0  # points of a token
LABEL, MARGIN = 0.86, 0.05  # inches
STEP, BLOCK_GAP, PAD, SPACE = 0.165, 0.09, 0.025, 0.028
MOST = 600  # tokens drawn
LONGEST = 40  # characters of a token
DARKEST = 0.82  # of the colour map, so that the darkest shade is not black


@dataclass(frozen=True)
class _Box:
    line: int
    left: float
    width: float


def text_figure(analysis: Analysis, width: float | None = None) -> Figure:
    """The text once for the start, for every n and for TokenRank forward and backward.

    Tokens are shaded from the 1st to the 99th percentile of each map (``style.scaled``); start
    tokens are framed. Of texts with more than 600 tokens the first 600 are drawn, and the figure
    says how many are left out.

    Args:
        analysis: of a text.
        width: inches; the whole page by default, one column for texts that fit it on two lines.

    Raises:
        InputError: the analysis of a picture, or of tokens without strings.
    """
    if not isinstance(analysis.source, tuple) or not analysis.source:
        raise InputError("this analysis has no token strings, expected one of a text; use bounces_figure for a picture")
    readable = readable_tokens(analysis.source[:MOST])
    if width is None:
        natural = sum(_widths([text for text, _ in readable])) + len(readable) * (2 * PAD + 2 * SPACE)
        width = COLUMN if natural <= 2 * (COLUMN - LABEL - MARGIN) else FULL
    longest = min(LONGEST, int((width - LABEL - MARGIN) / (SIZE / 72)))  # no letter is wider than high
    shown = [(shortened(text, longest), spaced) for text, spaced in readable]
    widths = _widths([text for text, _ in shown])
    boxes = _flow(widths, [spaced for _, spaced in shown], width - LABEL - MARGIN)
    lines_each = boxes[-1].line + 1
    block = lines_each * STEP + BLOCK_GAP
    local = is_local(analysis)
    labels = [(f"n = {n}", step_words(n, local), bounced) for n, bounced in analysis.bounces.items()]
    labels += [("TokenRank", "forward", analysis.forward), ("TokenRank", "backward", analysis.backward)]
    notes = caption(analysis)
    if len(analysis.source) > MOST:
        notes.append(f"the first {MOST} of {len(analysis.source):,} tokens")
    lines = wrapped(notes, width - 2 * MARGIN - SCALE_ROOM)
    block = max(block, 2 * LINE + BLOCK_GAP)
    foot = 0.04 + max(len(lines), 2) * LINE + MARGIN
    height = MARGIN + len(labels) * block + foot
    with paper_style():
        figure = Figure(figsize=(width, height))
        begins = (analysis.start_values > 0).tolist()
        framed = begins if sum(begins) < len(begins) else [False] * len(begins)
        for number, (title, subtitle, heat) in enumerate(labels):
            top = MARGIN + number * block
            axes = figure.add_axes((0, 1 - (top + block) / height, 1, block / height))
            axes.set(xlim=(0, width), ylim=(block, 0))
            axes.set_axis_off()
            axes.text(MARGIN, STEP / 2, title, va="center", fontsize=TITLE)
            axes.text(MARGIN, STEP / 2 + LINE * 1.05, subtitle, va="center", fontsize=SMALL, color=QUIET)
            shares = scaled(heat.values.double().cpu().numpy()) * DARKEST
            walks = title != "TokenRank"  # which knows no start
            for (text, _), box, share, frame in zip(shown, boxes, shares, framed, strict=False):
                _draw(axes, text, box, float(share), frame and walks)
        write_lines(figure, lines, MARGIN, height - foot + 0.04)
        draw_scale(figure, SHADE, width - MARGIN, height - foot + 0.04, DARKEST)
    return figure


def _draw(axes: Axes, text: str, box: _Box, share: float, frame: bool) -> None:
    fill = coloured(np.asarray(share), SHADE)
    top = box.line * STEP
    axes.add_patch(
        FancyBboxPatch(
            (LABEL + box.left, top + 0.012), box.width, STEP - 0.024, boxstyle="round,pad=0,rounding_size=0.02",
            facecolor=fill, edgecolor=INK if frame else "none", linewidth=0.8 if frame else 0,
        )
    )  # fmt: skip
    axes.text(LABEL + box.left + box.width / 2, top + STEP / 2, text, ha="center", va="center_baseline", fontsize=SIZE,
              color="white" if luminance(fill) < 0.45 else INK)  # fmt: skip


def _widths(texts: Sequence[str]) -> list[float]:
    """Widths in inches, as they will be drawn."""
    renderer = FigureCanvasAgg(Figure(dpi=288)).get_renderer()
    font = FontProperties(family=list(fonts()), size=SIZE)
    known = {text: renderer.get_text_width_height_descent(text, font, False)[0] / 288 for text in dict.fromkeys(texts)}
    return [known[text] for text in texts]


def _flow(widths: Sequence[float], spaced: Sequence[bool], room: float) -> list[_Box]:
    """Boxes from left to right, a new line where one would not fit."""
    boxes: list[_Box] = []
    line, left = 0, 0.0
    for width, space in zip(widths, spaced, strict=True):
        full = min(width + 2 * PAD, room)
        left += (SPACE if space else SPACE / 4) if left else 0
        if left and left + full > room:
            line, left = line + 1, 0.0
        boxes.append(_Box(line, left, full))
        left += full
    return boxes
