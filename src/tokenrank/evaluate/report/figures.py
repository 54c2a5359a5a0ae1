"""The two figures of a report: every method with its interval, and its difference to the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ...view.style import ACCENT, INK, QUIET, SMALL, drawable, paper_style, shortened
from ..statistics import Interval
from .collect import Results
from .names import figure_name, method_names

WIDTH = 5.2  # inches
ROW, HEAD, FOOT, MARGIN = 0.2, 0.08, 0.42, 0.08
NAMES = 1.9  # inches for the methods' names
LONGEST = 34  # characters of a name


def means_figure(results: Results) -> Figure:
    """The headline of every method with its interval; the reference is drawn hollow."""
    names = method_names([line.method for line in results.lines])
    found = [(names[line.method], line.headline) for line in results.lines]
    better = "higher" if results.higher_is_better else "lower"
    label = f"{figure_name(results.headline)} ({better} is better)"
    return _dots(found, names[results.reference], label, zero=False)


def differences_figure(results: Results) -> Figure:
    """The headline's difference to the reference, with its interval; nothing of the reference itself."""
    names = method_names([line.method for line in results.lines])
    found = [(names[line.method], line.difference) for line in results.lines if line.difference is not None]
    against = shortened(drawable(names[results.reference]), LONGEST)
    return _dots(found, None, f"Δ {figure_name(results.headline)} to {against}", zero=True)


def _dots(found: Sequence[tuple[str, Interval]], hollow: str | None, label: str, zero: bool) -> Figure:
    height = HEAD + max(len(found), 2) * ROW + FOOT
    with paper_style():
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes(
            (NAMES / WIDTH, FOOT / height, (WIDTH - NAMES - 2 * MARGIN) / WIDTH, (height - HEAD - FOOT) / height)
        )
        if zero:
            axes.axvline(0, color=QUIET, linewidth=0.5)
        for row, (name, interval) in enumerate(found):
            ends = [interval.low, interval.high]
            if np.isfinite(ends).all():
                axes.plot(ends, [row, row], color=ACCENT, linewidth=1.2, solid_capstyle="butt")
            if np.isfinite(interval.estimate):
                fill = "white" if name == hollow else ACCENT
                axes.plot([interval.estimate], [row], "o", color=ACCENT, markerfacecolor=fill, markersize=4)
            else:
                axes.text(0.02, row, "no value", transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL)
        names = [shortened(drawable(name), LONGEST) for name, _ in found]
        axes.set_yticks(range(len(found)), names)
        axes.set_ylim(max(len(found), 2) - 0.5, -0.5)  # the first method at the top
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", length=2, width=0.5, colors=INK)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(drawable(label), labelpad=3)
    return figure
