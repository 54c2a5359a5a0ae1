"""The report of a run: Markdown, one HTML page, figures and JSON."""

from .collect import Line, Results, collect
from .write import write_report

__all__ = ["Line", "Results", "collect", "write_report"]
