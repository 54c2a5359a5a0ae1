"""Which token is what: layouts of tokens, places in a source, windows of a picture."""

from .place import Moment, Place, Point, at
from .shown import Grid
from .token_layout import Indices, LayoutChoice, OneLayout, TokenLayout
from .windows import Windows

__all__ = ["Grid", "Indices", "LayoutChoice", "Moment", "OneLayout", "Place", "Point", "TokenLayout", "Windows", "at"]
