"""What guidance changed: a row a seed, the picture without it, where it acted, and the picture with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from torch import Tensor

from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from .caption import wrapped, write_lines
from .glyphs import drawable, fonts
from .style import COLUMN, LINE, paper_style

MARGIN, GAP, HEAD, TITLE, LABEL = 0.06, 0.05, 0.2, 7.5, 6.5  # inches, and points


@dataclass(frozen=True)
class Guided:
    """One seed.

    Attributes:
        name: of the row, such as "seed 3".
        plain, guided: the pictures.
        masks: bool (rows, columns) of each guided step; their mean is shown. None, or all alike, where there are none.
    """

    name: str
    plain: PIL.Image.Image
    guided: PIL.Image.Image
    masks: Sequence[Tensor] = field(default_factory=tuple)


def guided_figure(rows: Sequence[Guided], title: str = "", width: float = COLUMN) -> Figure:
    """A row a seed: without guidance, the share of steps in which each place was degraded, with guidance.

    Args:
        rows: of pictures of one size.
        title: below the figure, in as many lines as it takes.
        width: inches.

    Raises:
        InputError: no row, or a width in which nothing could be seen.
    """
    if not rows:
        raise InputError("no row to show, expected one seed at least")
    if width < 1.5:
        raise InputError(f"width = {width!r} inches, expected 1.5 or more")
    masked = any(len(row.masks) for row in rows)
    names = ["without", *(["degraded"] if masked else []), "guided"]
    side = (width - 2 * MARGIN - HEAD - GAP * (len(names) - 1)) / len(names)
    tall = side * rows[0].plain.height / rows[0].plain.width
    lines = wrapped([drawable(title)], width - 2 * MARGIN) if title else []
    height = 2 * MARGIN + HEAD + len(rows) * (tall + GAP) + len(lines) * LINE
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        for i, row in enumerate(rows):
            shares = np.mean([mask.float().numpy() for mask in row.masks], 0) if len(row.masks) else None
            panels = [np.asarray(row.plain), *([shares] if masked else []), np.asarray(row.guided)]
            for j, panel in enumerate(panels):
                top = MARGIN + HEAD + i * (tall + GAP)
                place = MARGIN + HEAD + j * (side + GAP), height - top - tall
                axes = figure.add_axes((place[0] / width, place[1] / height, side / width, tall / height))
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color="#d0d0d0", linewidth=0.4)
                if panel is not None:
                    axes.imshow(panel, cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0), aspect="auto")
                if i == 0:
                    axes.set_title(names[j], pad=3, fontsize=TITLE)
                if j == 0:
                    axes.set_ylabel(drawable(row.name), fontsize=LABEL, family=list(fonts(row.name)), labelpad=2)
        write_lines(figure, lines, MARGIN, height - MARGIN - len(lines) * LINE)
    return figure
