"""Models by name, pictures by path, and the layout of their tokens."""

from .images import ImageSource, read_image
from .layouts import expected_layout, find_layout, text_layout
from .load import load
from .model import Modality, Model

__all__ = ["ImageSource", "Modality", "Model", "expected_layout", "find_layout", "load", "read_image", "text_layout"]
