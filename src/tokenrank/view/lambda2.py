"""|λ2| of every head of every layer, as a table that can be seen."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..analysis import Analysis
from ..chain.shown_figure import ShownFigure
from .caption import KEPT, heads_words, lambda2_words, wrapped, write_lines
from .style import (
    COLUMN,
    FULL,
    INK,
    LINE,
    NUMBERS,
    QUIET,
    SMALL,
    TITLE,
    coloured,
    drawable,
    luminance,
    paper_style,
    shortened,
)

ROW = 0.23  # inches a layer
LEFT, RIGHT, HEAD, MARGIN = 0.42, 0.42, 0.24, 0.05
NARROWEST = 0.26  # inches a cell that still holds its number


def lambda2_figure(analysis: Analysis, width: float | None = None) -> Figure:
    """Layers × heads, from 0 (one bounce forgets the start) to 1 (it is never forgotten).

    Every cell has its number where there is room; "≈" marks the uncertain ones, a triangle the
    layer that the other figures show, and the line below says so, with |λ2| of its heads together.
    Layers are counted from zero, the last one at the top.

    Args:
        analysis: of a picture or a text.
        width: inches; one column of a page where the cells fit into it, by default.
    """
    values = analysis.lambda2.values.cpu().numpy()
    uncertain = analysis.lambda2.certificate.uncertain.cpu().numpy()
    layers, heads = values.shape
    if width is None:
        width = COLUMN if heads * NARROWEST <= COLUMN - LEFT - RIGHT else FULL
    pointed = f"◂ layer {analysis.layer_index}, which the other figures show: {heads_words(analysis)}"
    notes = [
        pointed + lambda2_words(analysis.chain_lambda2),
        KEPT,
        f"model {shortened(drawable(analysis.model), 48)}",
    ]
    notes += ["≈ uncertain: its residual stayed above the tolerance"] if uncertain.any() else []
    lines = wrapped(notes, width - 2 * MARGIN)
    body = max(layers * ROW, 4 * ROW)
    foot = 0.36 + len(lines) * LINE + MARGIN
    height = HEAD + body + foot
    with paper_style():
        figure = ShownFigure(figsize=(width, height))
        across = width - LEFT - RIGHT
        axes = figure.add_axes((LEFT / width, foot / height, across / width, body / height))
        axes.imshow(np.nan_to_num(values), cmap=NUMBERS, vmin=0, vmax=1, aspect="auto", origin="lower",
                    alpha=np.isfinite(values).astype(float))  # fmt: skip
        size = min(SMALL + 0.5, across / heads * 72 / 2.6, body / layers * 72 / 1.5)
        if size >= 3.5:
            for (layer, head), value in np.ndenumerate(values):
                if np.isfinite(value):
                    dark = luminance(coloured(np.asarray(value), NUMBERS)) < 0.5
                    mark = "≈" if uncertain[layer, head] else ""
                    axes.text(head, layer, f"{mark}{value:.2f}", ha="center", va="center", fontsize=size,
                              color="white" if dark else INK)  # fmt: skip
        axes.set_xticks(_ticks(heads, across / 0.2), minor=False)
        axes.set_yticks(_ticks(layers, body / 0.12))
        axes.set_xlabel("head", labelpad=2)
        axes.set_ylabel("layer", labelpad=3)
        axes.tick_params(length=0, pad=2)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(heads - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(layers - 1) + 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        axes.grid(which="minor", color="white", linewidth=0.6)
        axes.plot([heads - 0.5 + 0.09 / across * heads], [analysis.layer_index], "<", color=INK, markersize=4,
                  clip_on=False)  # fmt: skip
        axes.set(xlim=(-0.5, heads - 0.5), ylim=(-0.5, layers - 0.5))  # the mark stands outside
        figure.text(LEFT / width, 1 - 0.06 / height, "|λ₂| of every head", fontsize=TITLE, va="top")
        figure.text(1 - 0.05 / width, 1 - 0.075 / height, "colour: |λ₂|", fontsize=SMALL, color=QUIET, va="top",
                    ha="right")  # fmt: skip
        _scale(figure, (1 - (RIGHT - 0.19) / width, foot / height, 0.06 / width, body / height))
        write_lines(figure, lines, MARGIN, height - MARGIN - len(lines) * LINE)
    return figure


def _scale(figure: Figure, place: tuple[float, float, float, float]) -> None:
    axes = figure.add_axes(place, label="scale")
    axes.imshow(np.linspace(0, 1, 128)[:, None], cmap=NUMBERS, aspect="auto", origin="lower", extent=(0, 1, 0, 1))
    axes.set(xticks=[], yticks=[0, 0.5, 1], yticklabels=["0", "½", "1"])
    axes.yaxis.tick_right()
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _ticks(count: int, room: float) -> np.ndarray:
    """As many of 0 … count − 1 as there is room for, at even distances."""
    return np.arange(0, count, max(1, int(np.ceil(count / room))))
