"""Work: what is done to a batch of items, and what comes of it. Whoever does it, an item's rows are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

Row = dict[str, Any]
Item = TypeVar("Item")
Taken = TypeVar("Taken", contravariant=True)


@dataclass(frozen=True)
class Done:
    """A batch that has been worked on.

    Attributes:
        keys: its items.
        rows: one or several an item, with "key" first.
        failures: key → what went wrong.
        times: what items took, as far as it was measured.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    times: tuple[Row, ...] = ()


class Work(Protocol[Taken]):
    """Items → ``Done``. The rows of an item depend on it and on settings, never on its neighbours or the order.

    One that goes to workers can be pickled, everything that it holds included.
    """

    def __call__(self, items: Sequence[Taken]) -> Done:
        """Work on some items. What is wrong with one of them is its failure; what is wrong with all is raised.

        Raises:
            MemoryError, torch.OutOfMemoryError: memory ran out; the same items in smaller batches may do.
        """
        ...

    def key(self, item: Taken) -> str:
        """What an item is called in rows and failures, unique and in UTF-8."""
        ...

    def on(self, device: str) -> Work[Taken]:
        """The same work with its model on a device of torch: "cpu", "cuda"."""
        ...
