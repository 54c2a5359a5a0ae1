"""Whether a string is meant as a text or as the path of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import PIL.Image

VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"})
TEXTS = frozenset({".txt", ".md", ".rst", ".html", ".json", ".csv"})
SOUNDS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif"})
_MORE_PICTURES = frozenset({".svg", ".heic", ".heif", ".avif", ".jxl", ".raw"})


def reads_as_text(source: Any) -> bool:
    """Whether ``source`` is a text where nothing says so: a string with white space inside that is no path.

    A path is what exists as a file or folder, or ends like a picture, a video or a sound (``my cat.jpg``). Single words
    are taken for paths.
    """
    if not isinstance(source, str) or len(source.split()) < 2:
        return False
    suffix = Path(source.strip()).suffix.lower()
    return not (
        suffix in VIDEOS | SOUNDS | _MORE_PICTURES or suffix in PIL.Image.registered_extensions() or is_path(source)
    )


def is_path(text: str | os.PathLike[str]) -> bool:
    """Whether a file or folder of this name exists."""
    try:
        return bool(os.fspath(text)) and Path(text).exists()  # the empty path is the folder at hand
    except (OSError, ValueError):
        return False
