"""Labels over their picture: numbers where they lie, and a legend of names and areas below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageFilter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..chain.shown_figure import ShownFigure
from ..errors import InputError
from ..models import ImageSource, read_image
from ..tasks.palette import palette
from ..tasks.segmentation import Segmentation
from .caption import wrapped, write_lines
from .glyphs import drawable, fonts, glyph_notes, laid_out, shortened
from .style import COLUMN, INK, LINE, QUIET, SMALL, TITLE, paper_style

MARGIN, FOOT, ROW, SWATCH = 0.04, 0.07, 0.125, 0.085  # inches
APART = 0.16  # inches between columns
LETTER = 0.6 * SMALL / 72  # inches; seldom more
LONGEST, MOST = 28, 60  # characters of a name, labels in the legend
SMALLEST = 0.004  # of the picture: on a smaller segment a number would hide it
LOOKED_AT = 96  # pixels of the long side in which the middle of a segment is looked for


def labels_figure(
    segmentation: Segmentation, title: str = "", image: ImageSource | None = None, width: float = COLUMN
) -> Figure:
    """Labels in colour over the grey picture, each with its number, the starts, and a legend with names and areas.

    Colours are those of ``tokenrank.tasks.palette``: the same in every run, and told apart by colour-blind readers for
    the first labels; the numbers tell all of them apart.

    Args:
        segmentation: what ``tr.tasks.segment``, ``cluster`` or ``saliency`` gave.
        title: above it.
        image: the picture; that of the segmentation by default, white where it is not known.
        width: inches; ``view.FULL`` or ``view.COLUMN``. A tall picture is drawn narrower.

    Raises:
        InputError: a picture that cannot be read, or a width too small for the legend.
    """
    if width < 1.5:
        raise InputError(f"width = {width!r} inches, expected 1.5 or more: the legend does not fit")
    labels = segmentation.labels
    slope = labels.shape[0] / labels.shape[1]
    across = min(width - 2 * MARGIN, 2 * width / slope)
    entries = _entries(segmentation)
    notes = [segmentation.caption] if segmentation.caption else []
    notes += [] if segmentation.strengths is None else [segmentation.strength_words()]
    notes += ["area: share of the picture"] if entries else []
    notes += glyph_notes(segmentation.names[label] for label, name, _ in entries[:MOST] if name)
    if len(entries) > MOST:
        notes.append(f"the first {MOST} of {len(entries)} labels")
    lines = wrapped([shortened(drawable(piece), 240) for piece in notes], width - 2 * MARGIN)
    head = MARGIN + (LINE + 0.05 if title else 0)
    top = head + across * slope + FOOT
    columns = _columns(entries[:MOST], width - 2 * MARGIN)
    rows = -(-len(entries[:MOST]) // columns)
    height = top + rows * ROW + (0.04 if rows else 0) + len(lines) * LINE + MARGIN
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        left = (width - across) / 2
        place = (left / width, 1 - (head + across * slope) / height, across / width, across * slope / height)
        axes = figure.add_axes(place)
        axes.imshow(_drawn(segmentation, image), extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
        axes.spines[:].set(color="#d0d0d0", linewidth=0.4)
        axes.set_title(laid_out(drawable(title)), pad=3, fontsize=TITLE, family=list(fonts(title)))
        if len(entries) > 1:
            number_segments(axes, labels, len(segmentation.names))
        _legend(figure, entries[:MOST], columns, rows, top)
        write_lines(figure, lines, MARGIN, top + rows * ROW + (0.04 if rows else 0))
    return figure


def _drawn(segmentation: Segmentation, image: ImageSource | None) -> PIL.Image.Image:
    """The overlay on grey, at least so large that marks and edges are clean."""
    picture = segmentation.picture if image is None else read_image(image)
    return segmentation.overlay(None if picture is None else picture.convert("L").convert("RGB"))


def _entries(segmentation: Segmentation) -> list[tuple[int, str, str]]:
    """Number, name and area of every label that occurs; "segment 3" says no more than its number."""
    counts = np.bincount(segmentation.labels.ravel(), minlength=len(segmentation.names))
    total = segmentation.labels.size
    return [
        (label, "" if name == f"segment {label}" else shortened(drawable(name), LONGEST), f"{count / total:.1%}")
        for label, (name, count) in enumerate(zip(segmentation.names, counts.tolist(), strict=True))
        if label and count
    ]


def _each(entries: Sequence[tuple[int, str, str]]) -> float:
    """Inches of an entry: colour, number, name, area."""
    return SWATCH + 0.19 + (max((len(name) for _, name, _ in entries), default=0) + 6) * LETTER


def _columns(entries: Sequence[tuple[int, str, str]], room: float) -> int:
    return max(1, min(int((room + APART) / (_each(entries) + APART)), len(entries)))


def _legend(figure: Figure, entries: Sequence[tuple[int, str, str]], columns: int, rows: int, top: float) -> None:
    """Entries down the columns: a colour, a number, a name, an area."""
    width, height = figure.get_size_inches()
    each = _each(entries)
    for place, (label, name, area) in enumerate(entries):
        column, row = divmod(place, rows)
        left, middle = MARGIN + column * (each + APART), top + (row + 0.5) * ROW
        colour = tuple(palette()[(label - 1) % (len(palette()) - 1) + 1] / 255)
        box = (left / width, 1 - (middle + SWATCH / 2) / height), SWATCH / width, SWATCH / height
        figure.add_artist(Rectangle(*box, facecolor=colour, edgecolor="none", transform=figure.transFigure))
        number = left + SWATCH + 0.14
        for x, words, side, ink in (
            (number, f"{label}", "right", INK),
            (number + 0.05, laid_out(name), "left", INK),
            (left + each, area, "right", QUIET),
        ):
            letters = list(fonts(words))
            figure.text(
                x / width, 1 - middle / height, words, size=SMALL, family=letters, color=ink, ha=side, va="center"
            )


def number_segments(axes: Axes, labels: np.ndarray, count: int) -> None:
    """The number of every segment that is large enough, where it is deepest."""
    factor = max(1, -(-max(labels.shape) // LOOKED_AT))
    small = labels[factor // 2 :: factor, factor // 2 :: factor]
    for label in range(1, count):
        mask = small == label
        if mask.mean() < SMALLEST:
            continue
        row, column = _deepest(mask)
        place = (column + 0.5) / mask.shape[1], (row + 0.5) / mask.shape[0]
        rim = [withStroke(linewidth=1.4, foreground=INK)]
        axes.text(*place, f"{label}", size=SMALL + 0.5, color="white", ha="center", va="center", path_effects=rim)


def _deepest(mask: np.ndarray) -> tuple[int, int]:
    """A pixel of a mask far from its edge: of what is left when the mask was shrunk as often as anything is left."""
    left = np.asarray(mask)
    while True:
        shrunk = PIL.Image.fromarray(np.pad(left, 1).astype(np.uint8)).filter(PIL.ImageFilter.MinFilter(3))
        smaller = np.asarray(shrunk)[1:-1, 1:-1] > 0
        if not smaller.any():
            break
        left = smaller
    rows, columns = left.nonzero()
    nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return int(rows[nearest]), int(columns[nearest])
