"""Where a run's time goes: the forward, each method, all of an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

FORWARD = ""
"""Name of the forward, which methods share; no method has it."""

_spent: ContextVar[dict[str, float] | None] = ContextVar("tokenrank_spent", default=None)


@contextmanager
def timing() -> Iterator[dict[str, float]]:
    """Collect inside the block what ``spent_on`` measures: name → seconds."""
    found: dict[str, float] = {}
    token = _spent.set(found)
    try:
        yield found
    finally:
        _spent.reset(token)


@contextmanager
def spent_on(name: str) -> Iterator[None]:
    """Add the block's seconds to ``name``, where somebody collects them."""
    found = _spent.get()
    begin = perf_counter()
    try:
        yield
    finally:
        if found is not None:
            found[name] = found.get(name, 0.0) + perf_counter() - begin
