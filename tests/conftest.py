"""What every test runs under: no network, no display, one thread, fixed seeds."""

from __future__ import annotations

import gc
import os

# before numpy, transformers and matplotlib are imported by anything
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import tally
from tests.browser import browser, chromium  # noqa: F401  fixtures

# matrices here are small: a second thread gains nothing, and on a busy machine costs a factor of four
torch.set_num_threads(1)

pytest.register_assert_rewrite("tests.operators.conformance")

# no deadline: the first call of a kernel is slow, and so is a busy machine
settings.register_profile("tokenrank", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tokenrank")


@pytest.fixture(autouse=True)
def seed() -> int:
    """The same random numbers in every run and in every order of tests."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return 0


@pytest.fixture(autouse=True, scope="module")
def _little_to_look_through() -> None:
    """Modules, classes and tests that are there to stay are left out of what the collector looks through.

    A library of models is two million objects: half a second for every ``gc.collect()`` of a test. What is garbage by
    now is collected, so that nothing of the last module is kept.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The count of adversarial chains and of the pages' blocks, so that a change of it is seen."""
    if tally.cases:
        terminalreporter.write_sep(
            "-", f"{sum(tally.cases.values()):,} adversarial cases, {len(tally.cases)} questions"
        )
    for what, counts in (("Python blocks", tally.blocks), ("commands", tally.commands)):
        if counts:
            left_out = [f"{count} not run: {why}" for why, count in counts.items() if why]
            terminalreporter.write_sep("-", "; ".join([f"{counts[None]} {what} of the pages ran", *left_out]))


@pytest.fixture(autouse=True)
def _internal_errors_fail(request: pytest.FixtureRequest) -> Iterator[None]:
    """An exception of our own that a capture has caught fails the test; not where it is marked ``faulty``."""
    from tokenrank.recording import faults

    with faults.listening() as heard:
        yield
    if heard and request.node.get_closest_marker("faulty") is None:
        pytest.fail(f"internal exception, caught and reported as no layout:\n{heard[0]}", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the conformance matrix writes its results."""
    parser.addoption("--conformance-out", metavar="FILE.json", help="write the rows of the conformance matrix here")


@pytest.fixture(autouse=True)
def _registered_methods_leave() -> Iterator[None]:
    """Methods that a test or an example registers are gone after it."""
    registry = sys.modules.get("tokenrank.baselines.registry")
    before = dict(registry._METHODS) if registry else None
    yield
    if before is not None:
        registry._METHODS.clear()
        registry._METHODS.update(before)
