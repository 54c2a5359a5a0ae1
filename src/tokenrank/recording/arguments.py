"""Filters as people write them: one thing or several, whole numbers of any library."""

from __future__ import annotations

from collections.abc import Iterable


def several(value: object) -> list[object]:
    """A list of what was given: the entries of an iterable, or the one thing."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def whole(value: object) -> int | None:
    """A Python integer from any library's, or None for anything else; a bool is not a number here."""
    index = getattr(value, "__index__", None)
    return None if index is None or isinstance(value, bool) else int(index())
