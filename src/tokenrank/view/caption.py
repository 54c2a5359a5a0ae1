"""The words under a figure: which model, layer and heads, and how slow their chain is."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from ..analysis import Analysis
from ..markov import Lambda2
from .style import CLIP, LINE, QUIET, SMALL, Ends, Scale, coloured, drawable, shortened

LONGEST_NAME = 48
SCALE_ROOM = 1.2  # inches that the colour scale takes
KEPT = "|λ₂|: what each bounce keeps of the start in the long run, from 0 to 1"


def caption(analysis: Analysis) -> list[str]:
    """What a figure shows, in pieces that may stand on one line or below each other."""
    layers = len(analysis.layers)
    return [
        f"layer {analysis.layer_index} of 0–{layers - 1} ({_name(analysis.layer)})",
        f"{heads_words(analysis)}{lambda2_words(analysis.chain_lambda2)}",
        KEPT,
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


def wrapped(pieces: list[str], width: float, beside: float = 0.0) -> list[str]:
    """Lines of small text at most ``width`` inches wide, broken between pieces where possible.

    The first two lines leave ``beside`` inches free on their right, for the colour scale.
    """
    lines: list[str] = []
    for piece in pieces:
        joined = f"{lines[-1]}  ·  {piece}" if lines else piece
        if lines and len(joined) <= _most(width - (beside if len(lines) <= 2 else 0)):
            lines[-1] = joined
            continue
        rest = piece
        while rest:
            most = _most(width - (beside if len(lines) < 2 else 0))
            first, *more = textwrap.wrap(rest, most) or [""]
            lines.append(first)
            rest = " ".join(more)
    return lines


def _most(width: float) -> int:
    """Characters of small text on a line; one is 0.53 em wide on average."""
    return max(int(width / (0.53 * SMALL / 72)), 20)


def write_lines(figure: Figure, lines: list[str], left: float, top: float) -> None:
    """Lines of small text, from ``left`` and ``top`` inches measured from the figure's top left."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        y = 1 - (top + number * LINE) / height
        figure.text(left / width, y, line, fontsize=SMALL, color=QUIET, va="top", ha="left")


def unit_words(scale: Scale, token: str, count: int) -> str:
    """What the colours of maps are, with their unit.

    Args:
        scale: of the maps.
        token: what one token is: "patch", "token", "frame".
        count: how many there are.
    """
    if scale == "shared":
        return f"colour: attention on a {token}, 1 = an even share (1/{count:,}), one scale for all maps"
    return f"colour: attention on a {token}, each map on its own scale"


def draw_scale(
    figure: Figure, colours: str, right: float, top: float, end: float = 1.0, ends: Ends | None = None, count: int = 1
) -> None:
    """The colour scale of maps in two small lines, its top right corner at ``right`` and ``top`` inches.

    Args:
        figure: that it is drawn into.
        colours: a matplotlib colour map.
        right, top: inches from the figure's top left.
        end: the part of the colour map that is used.
        ends: shares of attention that all maps run between; None where every map runs between its own percentiles.
        count: of tokens; with ``ends`` numbers are multiples of an even share, 1 / count.
    """
    width, height = figure.get_size_inches()
    low, high, below = f"{CLIP[0]}", f"{CLIP[1]} %", "percentiles of each map"
    if ends is not None:
        low, high, below = times_words(ends[0] * count), f"{times_words(ends[1] * count)} ×", "an even share, all maps"
    bar, room = 0.5, max(0.27, 0.05 + 0.55 * SMALL / 72 * len(high))
    left = right - room - bar
    axes = figure.add_axes((left / width, 1 - (top + 0.09) / height, bar / width, 0.07 / height), label="scale")
    axes.imshow(coloured(np.linspace(0, end, 64)[None], colours), aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for x, y, words, side in (
        (left - 0.04, top, low, "right"),
        (left + bar + 0.04, top, high, "left"),
        (right, top + LINE, below, "right"),
    ):
        figure.text(x / width, 1 - y / height, words, fontsize=SMALL, color=QUIET, va="top", ha=side)


def times_words(value: float) -> str:
    """A multiple in few signs: 0, 0.019, 5.5, 120."""
    return f"{value:,.0f}" if value >= 99.5 or value < 5e-4 else f"{value:.2g}"


def _name(name: str) -> str:
    return shortened(drawable(name), LONGEST_NAME)
