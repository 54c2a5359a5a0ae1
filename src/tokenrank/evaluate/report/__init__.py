"""The report of a run: Markdown, one HTML page, figures and JSON."""

from .collect import Line, Results, Times, collect
from .examples import Example, Examples, find_examples
from .write import write_report, write_results

__all__ = [
    "Example",
    "Examples",
    "Line",
    "Results",
    "Times",
    "collect",
    "find_examples",
    "write_report",
    "write_results",
]
