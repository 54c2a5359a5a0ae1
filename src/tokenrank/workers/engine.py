"""Engines: who works on batches. ``Local`` is this process, ``RayEngine`` the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from ..progress import listening
from .memory import attempt
from .work import Done, Item, Work

Versions: TypeAlias = Callable[[], Mapping[str, str]]
"""What rows depend on beside the settings, by name: versions of libraries."""


class Engine(Protocol):
    """Batches → what came of them, in any order; every item stands in exactly one of the results."""

    def results(
        self, work: Work[Item], batches: Sequence[Sequence[Item]], versions: Versions | None = None
    ) -> Iterator[Done]:
        """What comes of each batch, as soon as it is there.

        Args:
            work: is done to every batch.
            batches: of items. A result may be of a part of one.
            versions: a function that is asked here and where the work is done; answers that differ are refused.
        """
        ...

    def record(self) -> dict[str, Any]:
        """What a run's record says of it; nothing where it is this process."""
        ...


class Local:
    """One batch after the other in this process."""

    def results(
        self, work: Work[Item], batches: Sequence[Sequence[Item]], versions: Versions | None = None
    ) -> Iterator[Done]:
        """See ``Engine``; in the order of the batches."""
        for batch in batches:
            done = _unheard(work, batch)
            if done is not None:
                yield done
                continue
            for item in batch:
                done = _unheard(work, [item])
                assert done is not None  # an item alone has rows or fails
                yield done

    def record(self) -> dict[str, Any]:
        """Nothing: the record of a run says on which machine it was."""
        return {}


def _unheard(work: Work[Item], items: Sequence[Item]) -> Done | None:
    """``attempt``; what is counted inside of it is a part of it, and not told."""
    with listening(_nobody):
        return attempt(work, items)


def _nobody(words: str, done: int, total: int | None) -> None:
    """Hears and says nothing."""
