"""Names from outside, made safe to print in an error message."""

from __future__ import annotations

import os
from pathlib import Path

_LONGEST = 200


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """``name`` in quotes, on one line, encodable everywhere: odd characters become escapes.

    File names need not be UTF-8, may hold line breaks or terminal codes, and may be very long.
    """
    text = os.fsdecode(name)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    if len(safe) > _LONGEST:
        safe = safe[: _LONGEST // 2] + " … " + safe[-_LONGEST // 2 :]
    return f"'{safe}'"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name where it has none."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    return (text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST] + " …") or type(error).__name__


def neighbours(path: Path) -> list[str]:
    """Names in the folder that ``path`` would be in; empty where there is no such folder."""
    try:
        return sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return []
