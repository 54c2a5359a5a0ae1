"""Pictures a second of an evaluation: the forward, then the map of each method."""

from __future__ import annotations

from collections.abc import Iterator

from .. import samples
from ..evaluate.methods import Query, parse_methods
from .bundled import network, observed
from .rows import Row
from .task import Task

METHODS = "bounce:n=2:heads=uniform,tokenrank:heads=uniform,tokenrank,rollout,saliency"
FORWARD = "forward"


def evaluations(task: Task) -> Iterator[Row]:
    """The section "evaluation": the photographs of the package, read, run and mapped, over reading and running them.

    Each method gets an observation of its own; ``per_second`` is pictures a second of reading, forward and map.
    """
    model, names = network(task.device), samples.names()

    def run(number: int, forward: bool) -> None:
        for name in names:
            seen = observed(name, model, task.device)
            if forward:
                seen.grid  # noqa: B018  # asks for the forward
            else:
                methods[number].run(seen, Query(seed=samples.start(name)))

    methods = parse_methods(METHODS)
    runs = {method.name: (lambda number=number: run(number, False)) for number, method in enumerate(methods)}
    found = task.clock.in_turn({FORWARD: lambda: run(0, True), **runs}, task.rounds)
    before = found[FORWARD]
    for name, one in found.items():
        more = {"per_second": len(names) / one.seconds}
        ratio, against = (None, "") if name == FORWARD else (one.over(before), FORWARD)
        yield Row("evaluation", f"{len(names)} pictures", name, one.seconds, ratio, against, one.runs, more)
