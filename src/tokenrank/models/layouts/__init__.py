"""Layouts of tokens, read off what a model is and what it did: never from the square root of N."""

from .find import expected_layout, find_layout
from .text import text_layout

__all__ = ["expected_layout", "find_layout", "text_layout"]
