"""Which peers, and in which versions, the answers were compared with."""

from __future__ import annotations

import importlib.metadata

import pytest

# PyDTMC 8.7 asks for matplotlib <= 3.7.3, which tokenrank cannot use: pip install --no-deps pydtmc
PEERS = ("quantecon", "pydtmc", "deeptime", "pygpcca", "networkx")


def found() -> str:
    versions = []
    for name in PEERS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return ", ".join(versions)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    run = [r for state in ("passed", "failed", "skipped") for r in terminalreporter.stats.get(state, [])]
    if any("tests/peers/" in r.nodeid for r in run):
        terminalreporter.write_sep("-", f"peers: {found()}")
