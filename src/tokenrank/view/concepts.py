"""Words of a prompt over a picture: a row a word, a column each way in which its map was made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..chain.heat import heat_over
from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..tasks import ConceptMaps
from .arrange import MARGIN
from .caption import wrapped, write_lines
from .glyphs import drawable, fonts
from .style import FULL, LINE, TITLE, paper_style

GAP, SIDE, HEAD = 0.05, 0.2, 0.3  # inches: between panels, of the words, of the titles
PIXELS = 300  # an inch of a panel


def concepts_figure(columns: Mapping[str, ConceptMaps], title: str = "", width: float = FULL) -> Figure:
    """Concept maps of the same words made in several ways, such as layers × bounces, over the grey picture.

    Every map is coloured from its own 1st to its 99th percentile and enlarged by cubic interpolation.

    Args:
        columns: what stands above a column → its maps; all of the same words and picture. A line break is kept.
        title: below the figure, in as many lines as it takes.
        width: inches; ``view.FULL`` or ``view.COLUMN``.

    Raises:
        InputError: no maps, maps of several words or without a picture, or panels too small to be seen.
    """
    if not columns:
        raise InputError("no concept maps to show, expected one column at least")
    first = next(iter(columns.values()))
    if any(maps.words != first.words for maps in columns.values()):
        raise InputError(f"the columns show other words than {first.words}, expected the same in all of them")
    if first.picture is None:
        raise InputError("the picture of these maps is not known; observe it with one: tr.observe(…, image=…)")
    across = (width - 2 * MARGIN - SIDE - GAP * len(columns)) / (1 + len(columns))
    if across < 0.3:
        raise InputError(f"{len(columns)} columns in {width:g} inches are too small to be seen; show fewer")
    tall = across * first.picture.height / first.picture.width
    lines = wrapped([drawable(title)], width - 2 * MARGIN) if title else []
    height = 2 * MARGIN + HEAD + len(first.words) * (tall + GAP) + len(lines) * LINE
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        for i, word in enumerate(first.words):
            top = MARGIN + HEAD + i * (tall + GAP)
            for j, (name, maps) in enumerate([("picture", None), *columns.items()]):
                left = MARGIN + SIDE + j * (across + GAP)
                place = (left / width, 1 - (top + tall) / height, across / width, tall / height)
                axes = figure.add_axes(place)
                _draw(axes, first.picture, None if maps is None else maps.values[i], (across, tall))
                if i == 0:
                    axes.set_title(name, pad=3, fontsize=TITLE, parse_math=False)
                if j == 0:
                    axes.set_ylabel(drawable(word), fontsize=TITLE, family=list(fonts(word)), labelpad=3)
        write_lines(figure, lines, MARGIN, height - MARGIN - len(lines) * LINE)
    return figure


def _draw(axes: Axes, picture: PIL.Image.Image, values: Tensor | None, inches: tuple[float, float]) -> None:
    size = max(1, round(inches[1] * PIXELS)), max(1, round(inches[0] * PIXELS))
    if values is None:
        image = np.asarray(picture.convert("RGB").resize(size[::-1], PIL.Image.Resampling.LANCZOS)) / 255
    else:
        image = heat_over(picture, values, size)
    axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set(color="#d0d0d0", linewidth=0.4)
