"""Figures for papers: matplotlib ``Figure`` objects, without pyplot and without a display."""

from .bounces import bounces_figure
from .lambda2 import lambda2_figure
from .save import FORMATS, render, save
from .style import COLUMN, FULL, paper_style
from .text import text_figure

__all__ = [
    "COLUMN",
    "FORMATS",
    "FULL",
    "bounces_figure",
    "lambda2_figure",
    "paper_style",
    "render",
    "save",
    "text_figure",
]
