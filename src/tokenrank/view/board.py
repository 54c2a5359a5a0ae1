"""A board: where TokenRank says that attention arrives, head by head and layer by layer, as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..chain import TokenMap
from ..chain.core import Direction
from ..chain.heat import heat_over
from ..chain.shown_figure import ShownFigure
from ..errors import InputError, LayoutError
from ..markov import Lambda2
from ..markov.sinks import outshining
from ..observation import Observation
from ..progress import track
from ..select import Layers
from .caption import LONGEST_NAME, SCALE_ROOM, draw_scale, unit_words, wrapped, write_lines
from .style import FULL, HEAT, LINE, QUIET, SMALL, Ends, Scale, drawable, paper_style, scales, shortened
from .text_board import Layer as TextLayer
from .text_board import text_board_pages

PAGE = 9.3  # inches of a page, caption included
LEFT, HEAD, GAP, NUMBER, MARGIN, FOOT = 0.34, 0.19, 0.045, 0.11, 0.05, 0.07
SMALLEST = 0.30  # inches of a map's short side; below that layers go on several pages
LARGEST = 1.0  # inches of a map's long side
PIXELS = 300  # an inch
NARROWEST = 3.3  # inches of a figure, so that its caption can be read
MARK = "#00c2d1"  # of sinks: no colour of the heat


@dataclass(frozen=True)
class _Cell:
    """One head of one layer."""

    values: np.ndarray  # (rows, columns), no number on sinks
    sinks: np.ndarray  # bool (rows, columns)
    held: float  # by the sinks


@dataclass(frozen=True)
class _Row:
    """One layer."""

    place: int
    cells: list[_Cell]
    moduli: Lambda2
    count: int  # of tokens


def board_figure(
    observation: Observation,
    *,
    layer: Layers = None,
    direction: Direction = "forward",
    alpha: float = 0.99,
    scale: Scale = "each",
    width: float = FULL,
) -> Figure:
    """TokenRank of every head of every layer: maps over the picture, heads from left to right, the last layer on top.

    Below each map stands the head's |λ2|. A patch that holds more than 30 % of a head's TokenRank, and twice an even
    share, is a sink (``markov.sinks.outshining``): it is ringed, what it holds is written in the corner, and the
    colours are those of the other patches. Where the layers do not fit a page in maps that can be seen this is the
    first of ``board_pages``, and the caption says so.

    Of a text: a row of tokens for every head, the heads of a layer below each other, |λ2| on the right, sinks framed;
    up to 76 tokens.

    Args:
        observation: of a picture or a text.
        layer: some of the layers; all where None. See ``tokenrank.select``.
        direction: of TokenRank: "forward" is where attention arrives, "backward" where it comes from.
        alpha: probability of following attention in TokenRank.
        scale: "each" colours every map from its own 1st to its 99th percentile, "shared" all maps on one scale, with
            its numbers; sinks are left out of both.
        width: inches at most; a figure of few heads is narrower.

    Raises:
        InputError: an observation of a sound, a picture or tokens that are not known, another scale. NotFoundError: no
            such layer. LayoutError: the patch grid is unknown.
    """
    if observation.modality == "text":
        return _of_text(observation, layer, direction, alpha, scale, width)[0]
    return _page(_board(observation, layer, direction, alpha, scale, width), 1)


def board_pages(
    observation: Observation,
    *,
    layer: Layers = None,
    direction: Direction = "forward",
    alpha: float = 0.99,
    scale: Scale = "each",
    width: float = FULL,
) -> list[Figure]:
    """All pages of ``board_figure``, which has the arguments: the layers in order, split evenly.

    12 × 12 heads are one page, 24 × 16 of a square picture two. ``view.save`` writes them.
    """
    if observation.modality == "text":
        return _of_text(observation, layer, direction, alpha, scale, width)
    board = _board(observation, layer, direction, alpha, scale, width)
    return [_page(board, page) for page in range(1, board.sheet.pages + 1)]


def _of_text(
    observation: Observation, layer: Layers, direction: Direction, alpha: float, scale: Scale, width: float
) -> list[Figure]:
    scales([], scale)
    layers = []
    for name in observation.several_layers(layer):
        ranks = _ranks(observation, name, direction, alpha)
        layers.append(TextLayer(observation.layers.index(name), ranks, observation.lambda2(name)))
    doubt = any(bool(part.moduli.certificate.uncertain.any()) for part in layers)
    outshone = any(bool(outshining(part.ranks.values).any()) for part in layers)
    count = layers[0].ranks.values.shape[-1]
    words = [*_words(observation, direction, alpha, "on the right", doubt), "heads of a layer from the top"]
    words += ["framed: holds over 30 % of its row, and is left out of the colours"] if outshone else []
    return text_board_pages(layers, [*words, unit_words(scale, "token", count)], len(observation.layers), scale, width)


@dataclass(frozen=True)
class _Board:
    """All that the pages show."""

    rows: Sequence[_Row]  # the first layer first
    ends: Sequence[Sequence[Ends]]
    picture: PIL.Image.Image
    sheet: _Sheet
    words: Sequence[str]
    layers: int  # of the model
    shared: Ends | None


def _board(
    observation: Observation, layer: Layers, direction: Direction, alpha: float, scale: Scale, width: float
) -> _Board:
    picture = _picture(observation)
    scales([], scale)  # a wrong one is told before anything is computed
    names = observation.several_layers(layer)
    sheet = _sheet(observation, names, picture, width)
    rows = [_row(observation, name, direction, alpha) for name in track(names, "TokenRank of layers")]
    chosen = scales([cell.values[np.isfinite(cell.values)] for row in rows for cell in row.cells], scale)
    left = iter(chosen)
    ends = [[next(left) for _ in row.cells] for row in rows]
    doubt = any(bool(row.moduli.certificate.uncertain.any()) for row in rows)
    words = _words(observation, direction, alpha, "below each", doubt)
    if any(cell.sinks.any() for row in rows for cell in row.cells):
        words.append("○ holds over 30 % of its map, together as written, and is left out of the colours")
    words.append(unit_words(scale, "patch", rows[0].count))
    shared = chosen[0] if scale == "shared" else None
    return _Board(rows, ends, picture, sheet, words, len(observation.layers), shared)


def _page(board: _Board, page: int) -> Figure:
    sheet, part = board.sheet, slice((page - 1) * board.sheet.rows, page * board.sheet.rows)
    rows, ends = board.rows[part][::-1], board.ends[part][::-1]
    words = list(board.words)
    if sheet.pages > 1:
        place = f"page {page} of {sheet.pages}: layers {rows[-1].place}–{rows[0].place} of {board.layers}"
        words.append(f"{place}; board_pages has all")
    lines = wrapped(words, sheet.figure_width - 2 * MARGIN, SCALE_ROOM)
    body = len(rows) * (sheet.height + NUMBER)
    height = HEAD + body + FOOT + max(len(lines), 2) * LINE + MARGIN
    with paper_style():
        figure = ShownFigure(figsize=(sheet.figure_width, height))
        axes = figure.add_axes((0, 0, 1, 1), label="board")
        axes.set_axis_off()
        for line, (row, scale) in enumerate(zip(rows, ends, strict=True)):
            top = HEAD + line * (sheet.height + NUMBER)
            axes.text(LEFT - 0.08, top + sheet.height / 2, f"{row.place}", ha="right", va="center", fontsize=SMALL)
            for head, cell in enumerate(row.cells):
                left = LEFT + head * (sheet.width + GAP)
                _draw(axes, cell, board.picture, (left, top, sheet.width, sheet.height), scale[head])
                _write_modulus(axes, row.moduli, head, left + sheet.width / 2, top + sheet.height + 0.015)
        for head in range(max(len(row.cells) for row in rows)):
            place_of = LEFT + head * (sheet.width + GAP) + sheet.width / 2
            axes.text(place_of, HEAD - 0.035, f"{head}", ha="center", va="bottom", fontsize=SMALL)
        axes.text(LEFT - 0.08, HEAD - 0.035, "head", ha="right", va="bottom", fontsize=SMALL, color=QUIET)
        axes.text(0.06, HEAD + body / 2, "layer", ha="left", va="center", fontsize=SMALL, color=QUIET, rotation=90)
        axes.set(xlim=(0, sheet.figure_width), ylim=(height, 0))
        write_lines(figure, lines, MARGIN, HEAD + body + FOOT)
        right, count = sheet.figure_width - MARGIN, rows[0].count
        draw_scale(figure, HEAT, right, HEAD + body + FOOT, ends=board.shared, count=count)
    return figure


@dataclass(frozen=True)
class _Sheet:
    """Sizes in inches: of a map, of the figure; layers on a page."""

    width: float
    height: float
    figure_width: float
    rows: int
    pages: int


def _sheet(observation: Observation, names: Sequence[str], picture: PIL.Image.Image, width: float) -> _Sheet:
    """Maps as large as they can be on as few pages as leave them large enough."""
    slope = picture.height / picture.width
    heads = max(observation.head_chains(name).batch[-1] for name in names)
    widest = min((width - LEFT - MARGIN + GAP) / heads - GAP, LARGEST, LARGEST / slope)
    room = PAGE - HEAD - FOOT - 5 * LINE - MARGIN
    for pages in range(1, len(names) + 1):
        rows = -(-len(names) // pages)
        across = min(widest, (room / rows - NUMBER) / slope)
        if across * min(slope, 1) >= SMALLEST or across >= 0.9 * widest:
            break
    natural = LEFT + heads * (across + GAP) - GAP + MARGIN
    return _Sheet(across, across * slope, max(natural, min(NARROWEST, width)), rows, pages)


def _row(observation: Observation, name: str, direction: Direction, alpha: float) -> _Row:
    ranks = _ranks(observation, name, direction, alpha)
    cells = [_cell(grid) for grid in ranks.grid().detach().double().cpu()]
    return _Row(observation.layers.index(name), cells, observation.lambda2(name), ranks.values.shape[-1])


def _ranks(observation: Observation, name: str, direction: Direction, alpha: float) -> TokenMap:
    """TokenRank of a layer's heads, (heads, N), kept for the next figure."""
    chains = observation.head_chains(name)
    return observation.keep(("board", name, direction, alpha), lambda: chains.tokenrank(alpha, direction=direction))


def _cell(grid: Tensor) -> _Cell:
    sinks = outshining(grid.flatten()).reshape(grid.shape).numpy()
    values = grid.numpy()
    return _Cell(np.where(sinks, np.nan, values), sinks, float(values[sinks].sum()))


def _draw(
    axes: Axes, cell: _Cell, picture: PIL.Image.Image, box: tuple[float, float, float, float], ends: Ends
) -> None:
    left, top, width, height = box
    size = max(1, round(height * PIXELS)), max(1, round(width * PIXELS))
    values = np.where(np.isfinite(cell.values), cell.values, ends[1])
    image = heat_over(picture, torch.from_numpy(values), size, ends)
    axes.imshow(image, extent=(left, left + width, top + height, top), aspect="auto", interpolation="antialiased")
    if not cell.sinks.any():
        return
    rows, columns = cell.sinks.nonzero()
    x = left + (columns + 0.5) / values.shape[1] * width
    y = top + (rows + 0.5) / values.shape[0] * height
    axes.plot(x, y, "o", markersize=3.4, markerfacecolor="none", markeredgecolor=MARK, markeredgewidth=0.9)
    rim = [withStroke(linewidth=1.2, foreground="black")]
    taken = bool(((2 * rows >= values.shape[0]) & (2 * columns >= values.shape[1])).any())  # a ring is there
    side, place = ("left", left + 0.015) if taken else ("right", left + width - 0.015)
    axes.text(place, top + height - 0.015, f"{cell.held:.0%}", ha=side, va="bottom",
              fontsize=SMALL - 1, color=MARK, path_effects=rim)  # fmt: skip


def _write_modulus(axes: Axes, moduli: Lambda2, head: int, middle: float, top: float) -> None:
    mark = "≈" if bool(moduli.certificate.uncertain[head]) else ""
    axes.text(middle, top, f"{mark}{float(moduli.values[head]):.2f}", ha="center", va="top",
              fontsize=SMALL - 1, color=QUIET)  # fmt: skip


def _words(observation: Observation, direction: Direction, alpha: float, where: str, doubt: bool) -> list[str]:
    """The caption: what is seen, but for sinks, colours and the page."""
    way = "where attention arrives" if direction == "forward" else "where attention comes from"
    return [
        f"TokenRank {direction} of every head: {way}",
        f"α = {alpha:g}",
        f"{where}: its |λ₂|, what each bounce keeps of the start in the long run, from 0 to 1",
        *(["≈ uncertain"] if doubt else []),
        f"model {shortened(drawable(observation.name), LONGEST_NAME)}",
    ]


def _picture(observation: Observation) -> PIL.Image.Image:
    if observation.modality != "image":
        raise InputError(
            "this is an observation of a sound, expected one of a picture or a text; all heads of it are in "
            "lambda2_figure(tr.analyze(observation)), the maps of one in sound_figure(tr.analyze(observation, layer=…, "
            "heads=…))"
        )
    if observation.picture is None:
        raise InputError("the picture behind this observation is not known; give it: tr.observe(…, image=…)")
    if len(observation.grid) != 2:
        raise LayoutError(f"the grid is {observation.grid}, expected (rows, columns)")
    return observation.picture
