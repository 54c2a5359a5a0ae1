"""The explorer's page of a photograph: seconds until it is written, and its bytes."""

from __future__ import annotations

from collections.abc import Iterator

from .. import samples
from ..explorer.explore import explore
from .bundled import network, observed
from .rows import Row
from .task import Task

FORWARD, OURS = "forward", "page"


def pages(task: Task) -> Iterator[Row]:
    """The section "page": reading, forward, |λ2| of every head and the file, over the forward alone."""
    model = network(task.device)
    names = samples.names()
    for number, name in enumerate(names[:1] if task.quick else names):
        if number and task.clock.left <= 0:
            return
        size = 0

        def page(name: str = name) -> None:
            nonlocal size
            size = len(explore(observed(name, model, task.device)).html().encode())

        def forward(name: str = name) -> None:
            observed(name, model, task.device).grid  # noqa: B018  # asks for the forward

        found = task.clock.in_turn({FORWARD: forward, OURS: page}, 1 if task.quick else 3)
        before, after = found[FORWARD], found[OURS]
        yield Row("page", name, FORWARD, before.seconds, runs=before.runs)
        yield Row("page", name, OURS, after.seconds, after.over(before), FORWARD, after.runs, {"bytes": size})
