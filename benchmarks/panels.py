"""Panels of a figure: a sheet measured in inches, pictures with a title and a line below it, marks, plain axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tokenrank as tr
from tokenrank.chain.heat import heat_over
from tokenrank.view.style import FULL, QUIET, SMALL, TITLE

PIXELS = 240  # of a panel's side
GAP = 0.06  # inches between panels


class Sheet:
    """A figure whose panels are placed in inches from its top left corner."""

    def __init__(self, height: float, width: float = FULL) -> None:
        self.figure, self.width, self.height = Figure(figsize=(width, height)), width, height

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        place = x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height
        return self.figure.add_axes(place)

    def row(self, y: float, count: int, left: float = 0.05, right: float = 0.05) -> tuple[list[Axes], float]:
        """Square panels side by side, and the length of their sides."""
        side = (self.width - left - right - (count - 1) * GAP) / count
        return [self.axes(left + i * (side + GAP), y, side, side) for i in range(count)], side

    def words(self, x: float, y: float, text: str, **options: Any) -> None:
        options = {"fontsize": SMALL, "color": QUIET, "va": "top"} | options
        self.figure.text(x / self.width, 1 - y / self.height, text, **options)


def side_of(count: int, left: float = 0.05, right: float = 0.05) -> float:
    return (FULL - left - right - (count - 1) * GAP) / count


def show(axes: Axes, image: Any, title: str = "", below: str = "") -> None:
    axes.imshow(image, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    head(axes, title, below)


def head(axes: Axes, title: str, below: str = "") -> None:
    axes.annotate(
        title, (0.5, 1), (0, 11 if below else 3), "axes fraction", "offset points", ha="center", fontsize=TITLE
    )
    axes.annotate(below, (0.5, 1), (0, 3), "axes fraction", "offset points", ha="center", fontsize=SMALL, color=QUIET)


def mark(axes: Axes, x: float, y: float, strong: bool = False) -> None:
    size = 4.5 if strong else 3.0
    for colour, width in (("black", 2.0), ("white", 1.1)) if strong else (("white", 0.6),):
        axes.plot([x], [y], "o", markersize=size, mfc="none", mec=colour, mew=width, clip_on=False)


def over(heat: tr.TokenMap, pixels: int = PIXELS) -> np.ndarray:
    assert heat.picture is not None
    return heat_over(heat.picture, heat.grid(), (pixels, pixels))


def powers(exponents: Sequence[int]) -> list[str]:
    """10⁻⁴ and the like, in letters: names are not mathematics here, so that matplotlib's own labels are not set."""
    return ["1" if k == 0 else "10" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) for k in exponents]


def log_ticks(axis: Any, exponents: Sequence[int]) -> None:
    axis.set_ticks([10.0**k for k in exponents], powers(exponents))


def plain(axes: Axes) -> None:
    """Axes of a curve: two thin lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2, width=0.5, pad=2, colors=QUIET, labelsize=SMALL)
