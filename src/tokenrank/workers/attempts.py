"""Attempts: how often each batch was begun. A process of its own that has nothing heavy to import."""

from __future__ import annotations

from collections import Counter


class Attempts:
    """An actor on the node of the process that asks: how often each batch was begun.

    Args:
        most: so many times it may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> bool:
        """Count a beginning; whether the batch may be worked on."""
        self._begun[number] += 1
        return self._begun[number] <= self._most

    def repeated(self) -> int:
        """How many beginnings there were beside the first of each batch."""
        return self._begun.total() - len(self._begun)
