"""Collects the rows of the conformance matrix and writes them at the end, where a file was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .check import Row
from .results import write

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Where every case puts what it showed."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write ``--conformance-out``."""
    file = session.config.getoption("--conformance-out", None)
    found = session.config.stash.get(ROWS, [])
    if file and found:
        write(Path(file), found)
