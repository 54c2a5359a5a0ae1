"""The words under a figure: which model, layer and heads, and how slow their chain is."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from ..analysis import Analysis
from ..markov import Lambda2
from .style import CLIP, LINE, QUIET, SMALL, coloured, drawable, shortened

LONGEST_NAME = 48
SCALE_ROOM = 1.2  # inches that the colour scale takes


def caption(analysis: Analysis) -> list[str]:
    """What a figure shows, in pieces that may stand on one line or below each other."""
    layers = len(analysis.layers)
    return [
        f"layer {analysis.layer_index} of 0–{layers - 1} ({_name(analysis.layer)})",
        f"{heads_words(analysis)}{lambda2_words(analysis.chain_lambda2)}",
        f"TokenRank with α = {analysis.alpha:g}",
        f"model {_name(analysis.model)}",
    ]


def is_local(analysis: Analysis) -> bool:
    """Whether the walk starts from some of the tokens; from more than half of them it starts everywhere."""
    return int((analysis.start_values > 0).sum()) <= len(analysis.start_values) // 2


def step_words(n: int, local: bool) -> str:
    """What n bounces are; one from everywhere selects no row."""
    return f"{n} bounces" if n > 1 else "row selection" if local else "one bounce"


def heads_words(analysis: Analysis) -> str:
    """How the heads became one chain, up to the |λ2| of that chain."""
    count = analysis.chains[analysis.layer].batch[-1]
    if isinstance(analysis.heads, int):
        return f"head {analysis.heads % count} of 0–{count - 1}, "
    if not isinstance(analysis.heads, str):
        numbers = ", ".join(str(head % count) for head in analysis.heads)
        return f"heads {numbers} of 0–{count - 1} weighted evenly, together "
    how = "weighted by |λ₂|" if analysis.heads == "lambda2" else "weighted evenly"
    return f"{count} heads {how}, together "


def lambda2_words(lambda2: Lambda2) -> str:
    """One chain's |λ2|, with a sign where it is uncertain."""
    return f"|λ₂| {'≈' if bool(lambda2.certificate.uncertain) else '='} {float(lambda2.values):.2f}"


def wrapped(pieces: list[str], width: float) -> list[str]:
    """Lines of small text at most ``width`` inches wide, broken between pieces where possible."""
    most = max(int(width / (0.56 * SMALL / 72)), 20)  # a character of the font is 0.56 em wide on average
    lines: list[str] = []
    for piece in pieces:
        joined = f"{lines[-1]}  ·  {piece}" if lines else piece
        if lines and len(joined) <= most:
            lines[-1] = joined
        else:
            lines += textwrap.wrap(piece, most)
    return lines


def write_lines(figure: Figure, lines: list[str], left: float, top: float) -> None:
    """Lines of small text, from ``left`` and ``top`` inches measured from the figure's top left."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        y = 1 - (top + number * LINE) / height
        figure.text(left / width, y, line, fontsize=SMALL, color=QUIET, va="top", ha="left")


def draw_scale(figure: Figure, colours: str, right: float, top: float, end: float = 1.0) -> None:
    """The colour scale of maps in two small lines, its top right corner at ``right`` and ``top`` inches.

    ``end`` is the part of the colour map that is used.
    """
    width, height = figure.get_size_inches()
    bar, room = 0.5, 0.27
    left = right - room - bar
    axes = figure.add_axes((left / width, 1 - (top + 0.09) / height, bar / width, 0.07 / height), label="scale")
    axes.imshow(coloured(np.linspace(0, end, 64)[None], colours), aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for x, y, words, side in (
        (left - 0.04, top, f"{CLIP[0]}", "right"),
        (left + bar + 0.04, top, f"{CLIP[1]} %", "left"),
        (right, top + LINE, "percentiles of each map", "right"),
    ):
        figure.text(x / width, 1 - y / height, words, fontsize=SMALL, color=QUIET, va="top", ha=side)


def _name(name: str) -> str:
    return shortened(drawable(name), LONGEST_NAME)
