"""Figures for papers: matplotlib ``Figure`` objects, without pyplot and without a display."""

from .audio import sound_figure, words_figure
from .board import board_figure, board_pages
from .bounces import bounces_figure, map_figure
from .concepts import concepts_figure
from .guided import Guided, guided_figure
from .labels import labels_figure
from .lambda2 import lambda2_figure
from .style import COLUMN, FORMATS, FULL, page_names, paper_style, render, render_pages, save
from .text import text_figure, text_pages

__all__ = [
    "COLUMN",
    "FORMATS",
    "FULL",
    "Guided",
    "board_figure",
    "board_pages",
    "bounces_figure",
    "concepts_figure",
    "guided_figure",
    "labels_figure",
    "lambda2_figure",
    "map_figure",
    "page_names",
    "paper_style",
    "render",
    "render_pages",
    "save",
    "sound_figure",
    "text_figure",
    "text_pages",
    "words_figure",
]
