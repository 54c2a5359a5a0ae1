"""Examples in docstrings, executed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import tokenrank
from tests.output import FLAGS, Checker

FEWEST = 20  # objects with an example


def with_examples() -> dict[str, doctest.DocTest]:
    """Every docstring of the package that holds ``>>>``, by the name of its object."""
    names = [m.name for m in pkgutil.walk_packages(tokenrank.__path__, "tokenrank.") if "__main__" not in m.name]
    # the source is read first: modules with optional dependencies and without examples need not be imported
    found: dict[str, doctest.DocTest] = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        with open(spec.origin, encoding="utf-8") as file:
            if ">>> " not in file.read():
                continue
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            if test.examples:
                found[test.name] = test
    return found


EXAMPLES = with_examples()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= FEWEST, sorted(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example(name: str) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(Checker(), optionflags=FLAGS, verbose=False)
    results = runner.run(EXAMPLES[name], out=report.append, clear_globs=False)
    assert not results.failed, "".join(report)


@pytest.mark.parametrize(("want", "got", "same"), [
    ("tensor([0., 6.])\n", "tensor([0.0000, 6.0000])\n", True),
    ("tensor([0.5])\n", "tensor([0.6])\n", False),
    ("exact, ...\n", "exact, 1 apply\n", True),
    ("2 maps, 0.5\n", "3 maps, 0.5\n", False),
])  # fmt: skip
def test_numbers_are_compared_as_numbers(want: str, got: str, same: bool) -> None:
    assert Checker().check_output(want, got, FLAGS) is same
