"""Models by name, pictures and sounds by path, and the layout of their tokens."""

from .images import ImageSource, read_image
from .layouts import expected_layout, find_layout, text_layout
from .load import load
from .model import Modality, Model
from .pipelines import of_pipeline
from .sound import Sound, SoundSource, is_sound, read_sound

__all__ = [
    "ImageSource",
    "Modality",
    "Model",
    "Sound",
    "SoundSource",
    "expected_layout",
    "find_layout",
    "is_sound",
    "load",
    "of_pipeline",
    "read_image",
    "read_sound",
    "text_layout",
]
