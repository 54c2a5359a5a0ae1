"""A picture and where attention goes in it: row selection, more bounces, the mask, TokenRank both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..analysis import Analysis
from ..chain import TokenMap
from ..chain.foreground import foreground
from ..chain.heat import heat_over
from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..layout import Point
from .arrange import MARGIN, SIDE, Arrangement, arrange
from .caption import SCALE_ROOM, caption, draw_scale, is_local, step_words, unit_words, wrapped, write_lines
from .style import ACCENT, COLUMN, FULL, HEAT, LINE, QUIET, SMALL, TITLE, Ends, Scale, paper_style, scales

PIXELS = 400  # an inch of a panel
FOOT = 0.06  # inches
MASK_OF = 2  # bounces: the paper's choice for segmentation


@dataclass(frozen=True)
class _Panel:
    title: str
    subtitle: str
    map: TokenMap | None = None
    start: bool = True
    mask: np.ndarray | None = None  # bool, at the picture's resolution


def bounces_figure(analysis: Analysis, width: float = FULL, scale: Scale = "each") -> Figure:
    """The picture with its start, one map for every n, the mask, TokenRank forward and backward.

    One strip at full width; rows of four at less than five inches, or with more than nine panels. Pictures keep their
    aspect: where panels of a strip would be too low to be seen, fewer stand side by side. Every map is enlarged by
    cubic interpolation and laid over the grey picture. The mask is that of two bounces, or of the most where two were
    not asked for: what ``tr.tasks.segment`` cuts out with the same start, layer, heads and n, above the mean of the map
    at the picture's resolution.

    Args:
        analysis: of a picture.
        width: inches; ``view.FULL`` or ``view.COLUMN``.
        scale: "each" colours every map from its own 1st to its 99th percentile, so that shapes can be compared;
            "shared" all of them on one scale, with its numbers, so that amounts can.

    Raises:
        InputError: the analysis of a text or a sound, or of a picture that is not known; another scale.
        LayoutError: the patch grid is unknown.
    """
    picture = analysis.observation.picture
    if analysis.modality != "image":
        thing, cure = {"text": ("text", "text_figure"), "audio": ("sound", "sound_figure")}[analysis.modality]
        raise InputError(f"this is the analysis of a {thing}, expected one of a picture; use {cure}")
    if picture is None:
        raise InputError("the picture behind this analysis is not known; give it: tr.observe(…, image=…)")
    panels = _panels(analysis)
    heats = [panel.map for panel in panels if panel.map is not None]
    ends = dict(zip(map(id, heats), scales([heat.grid().cpu().numpy() for heat in heats], scale), strict=True))
    placed = arrange(len(panels), picture.height / picture.width, width, (1, len(panels) - 2))
    count = analysis.chain.num_tokens
    notes = [*caption(analysis), unit_words(scale, "patch", count)]
    lines = wrapped(notes, width - 2 * MARGIN, SCALE_ROOM)
    height = placed.end + FOOT + max(len(lines), 2) * LINE + MARGIN
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        for panel, place in zip(panels, placed.places, strict=True):
            axes = _axes(figure, place, (placed.width, placed.height))
            _draw(axes, panel, picture, ends.get(id(panel.map)))
            if panel.start:
                _mark_start(axes, analysis, strong=panel.map is None)
            _head(axes, panel, placed)
        write_lines(figure, lines, MARGIN, placed.end + FOOT)
        shared = ends[id(heats[0])] if scale == "shared" else None
        draw_scale(figure, HEAT, width - MARGIN, placed.end + FOOT, ends=shared, count=count)
    return figure


def map_figure(heat: TokenMap, title: str = "", words: str = "", width: float = COLUMN) -> Figure:
    """One map over its picture, as the panels of ``bounces_figure``.

    Args:
        heat: a map (N,) that knows its picture, such as a method's: ``tr.baselines.rollout(observation)``.
        title: above it.
        words: below it, such as ``observation.describe(…)``.
        width: inches; ``view.FULL`` or ``view.COLUMN``. A tall picture is drawn narrower.

    Raises:
        InputError: a map without a picture. LayoutError: the patch grid is unknown.
    """
    if heat.picture is None:
        raise InputError("this map does not know its picture; give it: dataclasses.replace(map, picture=picture)")
    slope = heat.picture.height / heat.picture.width
    across = min(width - 2 * MARGIN, 2 * width / slope)
    lines = wrapped([words], width - 2 * MARGIN, SCALE_ROOM) if words else []
    head = MARGIN + (LINE + 0.05 if title else 0)
    height = head + across * slope + FOOT + max(len(lines), 2) * LINE + MARGIN
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        axes = _axes(figure, ((width - across) / 2, head), (across, across * slope))
        _draw(axes, _Panel(title, "", heat), heat.picture)
        axes.set_title(title, pad=3, fontsize=TITLE)
        write_lines(figure, lines, MARGIN, head + across * slope + FOOT)
        draw_scale(figure, HEAT, width - MARGIN, head + across * slope + FOOT)
    return figure


def _panels(analysis: Analysis) -> list[_Panel]:
    local, bounces = is_local(analysis), analysis.bounces
    cut = MASK_OF if MASK_OF in bounces else max(bounces)
    mask = _mask(bounces[cut], analysis.observation.size)
    return [
        _Panel("picture", "start" if local else "start: everywhere"),
        *(_Panel(f"n = {n}", step_words(n, local), bounced) for n, bounced in bounces.items()),
        _Panel(f"mask, n = {cut}", "above the mean" if mask.any() else "empty", mask=mask),
        _Panel("TokenRank", "forward", analysis.forward, start=False),
        _Panel("TokenRank", "backward", analysis.backward, start=False),
    ]


def _axes(figure: Figure, place: tuple[float, float], size: tuple[float, float]) -> Axes:
    """Axes at (left, top) of (width, height) inches."""
    width, height = figure.get_size_inches()
    (left, top), (across, down) = place, size
    return figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))


def _draw(axes: Axes, panel: _Panel, picture: PIL.Image.Image, ends: Ends | None = None) -> None:
    box = axes.get_window_extent()
    size = max(1, round(box.height / axes.figure.dpi * PIXELS)), max(1, round(box.width / axes.figure.dpi * PIXELS))
    image = np.asarray(picture.convert("RGB").resize(size[::-1], PIL.Image.Resampling.LANCZOS)) / 255
    if panel.mask is not None:
        image = _cut_out(axes, image, panel.mask)
    elif panel.map is not None:
        image = heat_over(picture, panel.map.grid(), size, ends)
    # in fractions of the picture, so that points need no conversion
    axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set(visible=panel.mask is not None, color="#d0d0d0", linewidth=0.4)


def _mask(heat: TokenMap, size: tuple[int, int]) -> np.ndarray:
    """As ``tasks.segment`` cuts it: enlarged to the picture first, then what is above the mean."""
    values = replace(heat, values=heat.values.double()).upsample(size).cpu().numpy()
    return foreground(values, axes=2)


def _cut_out(axes: Axes, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What is in the mask as it is, all else grey and faint; with a line around it."""
    height, width = image.shape[:2]
    whole = PIL.Image.fromarray(mask.astype(np.float32))
    inside = np.clip(np.asarray(whole.resize((width, height), PIL.Image.Resampling.BILINEAR)), 0, 1)
    if mask.any():
        # a margin of nothing, so that the line closes along the edge of the picture
        across, down = ((np.arange(-1, count + 1) + 0.5) / count for count in (width, height))
        for colour, line in (("white", 1.5), (ACCENT, 0.7)):
            axes.contour(across, down, np.pad(inside, 1), levels=[0.5], colors=colour, linewidths=line)
    faint = 1 - 0.45 * (1 - image.mean(-1, keepdims=True).repeat(3, -1))
    return np.clip(inside[..., None] * image + (1 - inside[..., None]) * faint, 0, 1)


def _head(axes: Axes, panel: _Panel, placed: Arrangement) -> None:
    if placed.beside:
        left = -(SIDE) / placed.width
        for words, down, size, colour in ((panel.title, -0.065, TITLE, None), (panel.subtitle, 0.06, SMALL, QUIET)):
            axes.text(left, 0.5 - down / placed.height, words, transform=axes.transAxes, ha="left", va="center",
                      fontsize=size, color=colour)  # fmt: skip
        return
    axes.set_title(panel.title, pad=(0.045 + LINE) * 72, fontsize=TITLE)
    above = 1 + 0.035 / placed.height
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
