"""A board of a text: TokenRank of every head on every token, a row a head, a block a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..chain import TokenMap
from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..markov import Lambda2
from ..markov.sinks import outshining
from ..token_text import readable
from .caption import SCALE_ROOM, draw_scale, wrapped, write_lines
from .glyphs import drawable, glyph_notes, laid_out, shortened
from .style import LINE, QUIET, SHADE, SMALL, Ends, Scale, coloured, paper_style, scales, shares

PAGE = 9.3  # inches of a page, caption included
LEFT, RIGHT, MARGIN, FOOT = 0.42, 0.30, 0.05, 0.06
ROW, BLOCK = 0.085, 0.06  # inches of a head, and between layers
WIDEST, NARROWEST = 0.17, 0.078  # inches of a token
MOST, LONGEST = 76, 16  # tokens drawn, letters of a token
DARKEST = 0.82  # of the colour map, so that the darkest shade is not black
SINK, FILL = "#00a3b0", "#c9f1f4"  # edge and fill of a sink: no colour of the heat


@dataclass(frozen=True)
class Layer:
    """One layer of a text: its place, TokenRank of its heads (heads, N), and their |λ2|."""

    place: int
    ranks: TokenMap
    moduli: Lambda2


def text_board_pages(
    layers: Sequence[Layer], words: Sequence[str], of: int, scale: Scale, width: float
) -> list[Figure]:
    """Pages of at most 9.3 inches, the layers split evenly, the last layer of a page at its top.

    Args:
        layers: the first one first.
        words: the caption.
        of: how many layers the model has.
        scale: see ``board_figure``.
        width: inches at most.

    Raises:
        InputError: tokens without strings.
    """
    layout = layers[0].ranks.layout
    if layout is None or layout.tokens is None:
        raise InputError("the tokens have no strings, expected those of a text; give them: tr.observe(…, tokenizer=…)")
    texts = [shortened(drawable(text), LONGEST) for text, _ in readable(layout.tokens[:MOST])]
    notes = [*words, *glyph_notes(text for text, _ in readable(layout.tokens[:MOST]))]
    if len(layout.tokens) > MOST:
        notes.append(f"the first {MOST} of {len(layout.tokens):,} tokens")
    values = [layer.ranks.values.detach().double().cpu().numpy() for layer in layers]
    sinks = [outshining(layer.ranks.values).cpu().numpy() for layer in layers]
    chosen = scales([v[~s] for all_v, all_s in zip(values, sinks, strict=True)
                     for v, s in zip(all_v, all_s, strict=True)], scale)  # fmt: skip
    left = iter(chosen)
    shades = [np.stack([shares(v, next(left)) for v in all_v]) for all_v in values]
    heads = max(len(v) for v in values)
    across = min(WIDEST, max(NARROWEST, (width - LEFT - RIGHT - MARGIN) / len(texts)))
    head = 0.06 + 0.6 * SMALL / 72 * max(map(len, texts))
    fit = max(1, int((PAGE - head - FOOT - 6 * LINE) / (heads * ROW + BLOCK)))
    pages = -(-len(layers) // fit)
    each = -(-len(layers) // pages)
    figures = []
    for page in range(pages):
        part = slice(page * each, (page + 1) * each)
        here = list(notes)
        if pages > 1:
            first, last = layers[part][0].place, layers[part][-1].place
            here.append(f"page {page + 1} of {pages}: layers {first}–{last} of {of}; board_pages has all")
        size = _Size(max(LEFT + across * len(texts) + RIGHT + MARGIN, min(width, 3.6)), head, across)
        shown = list(zip(layers, shades, sinks, strict=True))[part][::-1]
        figures.append(_page(shown, texts, here, size, chosen[0] if scale == "shared" else None))
    return figures


@dataclass(frozen=True)
class _Size:
    """Inches: of the figure, of the tokens' strings, of a token's column."""

    width: float
    head: float
    across: float


def _page(
    shown: Sequence[tuple[Layer, npt.NDArray[np.float64], npt.NDArray[np.bool_]]],
    texts: Sequence[str],
    words: list[str],
    size: _Size,
    ends: Ends | None,
) -> Figure:
    lines = wrapped(words, size.width - 2 * MARGIN, SCALE_ROOM)
    body = sum(len(shade) * ROW + BLOCK for _, shade, _ in shown)
    below = size.head + body + FOOT
    height = below + max(len(lines), 2) * LINE + MARGIN
    right = LEFT + size.across * len(texts)
    with paper_style("".join(texts)):
        figure = ShownFigure(figsize=(size.width, height))
        axes = figure.add_axes((0, 0, 1, 1), label="board")
        axes.set_axis_off()
        for place, text in enumerate(texts):
            axes.text(LEFT + (place + 0.5) * size.across, size.head - 0.03, laid_out(text), rotation=90, ha="center",
                      va="bottom", fontsize=SMALL)  # fmt: skip
        axes.text(right + 0.05, size.head - 0.03, "|λ₂|", ha="left", va="bottom", fontsize=SMALL, color=QUIET)
        top = size.head
        for layer, shade, sinks in shown:
            _block(axes, layer, shade[:, : len(texts)], sinks[:, : len(texts)], (top, right, size.across))
            top += len(shade) * ROW + BLOCK
        axes.text(0.06, size.head + body / 2, "layer", ha="left", va="center", fontsize=SMALL, color=QUIET, rotation=90)
        axes.set(xlim=(0, size.width), ylim=(height, 0))
        write_lines(figure, lines, MARGIN, below)
        count = shown[0][0].ranks.values.shape[-1]
        draw_scale(figure, SHADE, size.width - MARGIN, below, DARKEST, ends, count)
    return figure


def _block(
    axes: Axes,
    layer: Layer,
    shade: npt.NDArray[np.float64],
    sinks: npt.NDArray[np.bool_],
    place: tuple[float, float, float],
) -> None:
    """One layer: its heads from the top, each with its |λ2|."""
    top, right, across = place
    bottom = top + len(shade) * ROW
    axes.imshow(coloured(shade * DARKEST, SHADE), extent=(LEFT, right, bottom, top), aspect="auto",
                interpolation="nearest")  # fmt: skip
    for row, column in np.argwhere(sinks):
        corner = LEFT + column * across, top + row * ROW
        axes.add_patch(Rectangle(corner, across, ROW, facecolor=FILL, edgecolor=SINK, linewidth=0.6))
    axes.text(LEFT - 0.17, (top + bottom) / 2, f"{layer.place}", ha="right", va="center", fontsize=SMALL)
    for head in range(len(shade)):
        middle = top + (head + 0.5) * ROW
        axes.text(LEFT - 0.04, middle, f"{head}", ha="right", va="center", fontsize=SMALL - 2, color=QUIET)
        mark = "≈" if bool(layer.moduli.certificate.uncertain[head]) else ""
        axes.text(right + 0.05, middle, f"{mark}{float(layer.moduli.values[head]):.2f}", ha="left", va="center",
                  fontsize=SMALL - 1.5, color=QUIET)  # fmt: skip
