"""Figures for papers: matplotlib ``Figure`` objects, without pyplot and without a display."""

from .audio import sound_figure, words_figure
from .bounces import bounces_figure, map_figure
from .lambda2 import lambda2_figure
from .style import COLUMN, FORMATS, FULL, paper_style, render, save
from .text import text_figure

__all__ = [
    "COLUMN",
    "FORMATS",
    "FULL",
    "bounces_figure",
    "lambda2_figure",
    "map_figure",
    "paper_style",
    "render",
    "save",
    "sound_figure",
    "text_figure",
    "words_figure",
]
