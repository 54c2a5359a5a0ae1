"""Arguments that are numbers."""

from __future__ import annotations

from ..errors import ChainError


def probability(name: str, value: float) -> None:
    """Raise ChainError unless ``value`` is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ChainError(f"{name} = {value!r}, expected a probability from 0 to 1")
