"""A picture and where attention goes in it: row selection, more bounces, TokenRank both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..analysis import Analysis
from ..chain import TokenMap
from ..errors import InputError
from ..layout import Point
from .caption import SCALE_ROOM, caption, draw_scale, is_local, step_words, wrapped, write_lines
from .style import COLUMN, FULL, HEAT, LINE, QUIET, SMALL, TITLE, coloured, paper_style, scaled

PIXELS = 400  # an inch of a panel
OPACITY = 0.65  # of the map over the grey picture
GAP, GROUP_GAP, HEAD, FOOT, MARGIN = 0.05, 0.08, 0.30, 0.06, 0.04  # inches
SLIMMEST = 0.35  # a panel's short side over its long one; slimmer pictures are stretched to that


@dataclass(frozen=True)
class _Panel:
    title: str
    subtitle: str
    map: TokenMap | None = None
    start: bool = True


def bounces_figure(analysis: Analysis, width: float = FULL) -> Figure:
    """The picture with its start, one map for every n, TokenRank forward and backward.

    One strip at full width; at less than five inches, or with more than nine panels, rows of
    four. Every map is enlarged by cubic interpolation, coloured from its own 1st to its 99th
    percentile (``style.scaled``), and laid over the grey picture.

    Args:
        analysis: of a picture.
        width: inches; ``view.FULL`` or ``view.COLUMN``.

    Raises:
        InputError: the analysis of a text, or of a picture that is not known.
        LayoutError: the patch grid is unknown.
    """
    picture = analysis.observation.picture
    if analysis.modality != "image":
        raise InputError("this is the analysis of a text, expected one of a picture; use text_figure")
    if picture is None:
        raise InputError("the picture behind this analysis is not known; give it: tr.observe(…, image=…)")
    panels = _panels(analysis)
    columns = len(panels) if width > 5 and len(panels) <= 9 else 4
    rows = -(-len(panels) // columns)
    group_gap = GROUP_GAP if rows == 1 else 0  # sets picture, bounces and TokenRank apart
    panel_width = (width - 2 * MARGIN - (columns - 1) * GAP - 2 * group_gap) / columns
    panel_height = panel_width * _slope(picture)
    lines = wrapped(caption(analysis), width - 2 * MARGIN - SCALE_ROOM)
    foot = FOOT + max(len(lines), 2) * LINE + MARGIN
    height = rows * (HEAD + panel_height) + foot
    size = (round(panel_height * PIXELS), round(panel_width * PIXELS))
    with paper_style():
        figure = Figure(figsize=(width, height))
        for place, panel in enumerate(panels):
            row, column = divmod(place, columns)
            groups = (place > 0) + (place >= len(panels) - 2)
            left = MARGIN + column * (panel_width + GAP) + groups * group_gap
            bottom = height - (row + 1) * (HEAD + panel_height)
            axes = figure.add_axes((left / width, bottom / height, panel_width / width, panel_height / height))
            _draw(axes, panel, picture, size)
            if panel.start:
                _mark_start(axes, analysis, strong=panel.map is None)
            _head(axes, panel, panel_height)
        write_lines(figure, lines, MARGIN, height - foot + FOOT)
        draw_scale(figure, HEAT, width - MARGIN, height - foot + FOOT)
    return figure


def map_figure(heat: TokenMap, title: str = "", words: str = "", width: float = COLUMN) -> Figure:
    """One map over its picture, as the panels of ``bounces_figure``.

    Args:
        heat: a map (N,) that knows its picture, such as a method's: ``tr.baselines.rollout(observation)``.
        title: above it.
        words: below it, such as ``observation.describe(…)``.
        width: inches; ``view.FULL`` or ``view.COLUMN``.

    Raises:
        InputError: a map without a picture. LayoutError: the patch grid is unknown.
    """
    if heat.picture is None:
        raise InputError("this map does not know its picture; give it: dataclasses.replace(map, picture=picture)")
    panel_width = width - 2 * MARGIN
    panel_height = panel_width * _slope(heat.picture)
    lines = wrapped([words], panel_width - SCALE_ROOM) if words else []
    head = MARGIN + (LINE + 0.05 if title else 0)
    height = head + panel_height + FOOT + max(len(lines), 2) * LINE + MARGIN
    with paper_style():
        figure = Figure(figsize=(width, height))
        bottom = 1 - (head + panel_height) / height
        axes = figure.add_axes((MARGIN / width, bottom, panel_width / width, panel_height / height))
        _draw(axes, _Panel(title, "", heat), heat.picture, (round(panel_height * PIXELS), round(panel_width * PIXELS)))
        axes.set_title(title, pad=3, fontsize=TITLE)
        write_lines(figure, lines, MARGIN, head + panel_height + FOOT)
        draw_scale(figure, HEAT, width - MARGIN, head + panel_height + FOOT)
    return figure


def heat_over(picture: PIL.Image.Image, heat: TokenMap, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A map over its grey picture, RGB of ``size`` = (height, width)."""
    rows, columns = size
    grey = np.asarray(picture.convert("L").resize((columns, rows), PIL.Image.Resampling.LANCZOS)) / 255
    values = heat.upsample(size, mode="bicubic").cpu().numpy()
    colours = coloured(scaled(values, heat.grid().cpu().numpy()), HEAT)
    mixed: npt.NDArray[np.float64] = OPACITY * colours + (1 - OPACITY) * grey[..., None]
    return mixed


def _slope(picture: PIL.Image.Image) -> float:
    """A panel's height over its width."""
    return min(max(picture.height / picture.width, SLIMMEST), 1 / SLIMMEST)


def _panels(analysis: Analysis) -> list[_Panel]:
    local = is_local(analysis)
    return [
        _Panel("picture", "start" if local else "start: everywhere"),
        *(_Panel(f"n = {n}", step_words(n, local), bounced) for n, bounced in analysis.bounces.items()),
        _Panel("TokenRank", "forward", analysis.forward, start=False),
        _Panel("TokenRank", "backward", analysis.backward, start=False),
    ]


def _draw(axes: Axes, panel: _Panel, picture: PIL.Image.Image, size: tuple[int, int]) -> None:
    if panel.map is None:
        image = np.asarray(picture.resize(size[::-1], PIL.Image.Resampling.LANCZOS))
    else:
        image = heat_over(picture, panel.map, size)
    # in fractions of the picture, so that points need no conversion
    axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _head(axes: Axes, panel: _Panel, panel_height: float) -> None:
    axes.set_title(panel.title, pad=(0.045 + LINE) * 72, fontsize=TITLE)
    above = 1 + 0.035 / panel_height
    axes.text(
        0.5, above, panel.subtitle, transform=axes.transAxes, ha="center", va="bottom", fontsize=SMALL, color=QUIET
    )


def _mark_start(axes: Axes, analysis: Analysis, strong: bool) -> None:
    if isinstance(analysis.start, Point):
        point = ([analysis.start.x], [analysis.start.y])
        size, line = (4.5, 1.1) if strong else (3.0, 0.5)
        for colour, extra in (("black", 0.9), ("white", 0.0)) if strong else (("white", 0.0),):
            axes.plot(*point, "o", markersize=size, markerfacecolor="none", markeredgecolor=colour,
                      markeredgewidth=line + extra, clip_on=False)  # fmt: skip
    elif strong and is_local(analysis):
        for x, y, w, h in _patches(analysis):
            axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="white", linewidth=0.8))


def _patches(analysis: Analysis) -> Sequence[tuple[float, float, float, float]]:
    """Boxes (x, y, width, height) of the patches that the walk starts from, in fractions of the picture."""
    grid = TokenMap(analysis.start_values, analysis.layout).grid()
    rows, columns = grid.shape
    return [(j / columns, i / rows, 1 / columns, 1 / rows) for i, j in grid.nonzero().tolist()]
