"""Where batches are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Engine(Protocol):
    """Applies a function to batches, here or elsewhere."""

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """Results of all batches, in any order, each as soon as it is there.

        ``function`` depends on its batch alone. An exception of it ends the iteration.
        """
        ...


class Local:
    """One batch after the other, in this process."""

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """Results in the order of the batches."""
        return map(function, batches)
