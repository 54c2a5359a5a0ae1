"""Whether a string is meant as a text or as the path of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..endings import OTHER_PICTURES, PICTURES, SOUNDS, VIDEOS


def reads_as_text(source: Any) -> bool:
    """Whether ``source`` is a text where nothing says so: a string with white space inside that is no path.

    A path is what exists as a file or folder, or ends like a picture, a video or a sound (``my cat.jpg``). Single words
    are taken for paths.
    """
    if not isinstance(source, str) or len(source.split()) < 2:
        return False
    ending = Path(source.strip()).suffix.lower()
    return ending not in PICTURES | OTHER_PICTURES | SOUNDS | VIDEOS and not is_path(source)


def is_path(text: str | os.PathLike[str]) -> bool:
    """Whether a file or folder of this name exists."""
    try:
        return bool(os.fspath(text)) and Path(text).exists()  # the empty path is the folder at hand
    except (OSError, ValueError):
        return False
