"""Four processes for all tests of this folder; rings of two and four of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .ranks import Ranks, started
from .shards import ring_of


def made(size: int) -> int:
    return ring_of(size).size


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    with started(4) as processes:
        for size in (2, 4):  # on all alike: torch numbers the groups that a process makes
            processes.run(made, size)
        yield processes
