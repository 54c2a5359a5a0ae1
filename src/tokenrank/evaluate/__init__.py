"""Data sets, metrics, protocols, a resumable runner and its report."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import open_dataset
    from .methods import parse_methods
    from .protocols import find
    from .report import write_report
    from .runner.run import Run, run

__all__ = ["Run", "find", "open_dataset", "parse_methods", "run", "write_report"]

_HOMES = {
    "Run": "runner",
    "find": "protocols",
    "open_dataset": "datasets",
    "parse_methods": "methods",
    "run": "runner",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    # on use, so that the command line does not wait for pandas and scikit-learn
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
