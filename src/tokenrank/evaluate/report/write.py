"""``write_report``: the files of a report, beside the run's rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..runner.files import refusal, write_whole
from .collect import LEVEL, RESAMPLES, Results, collect
from .document import document
from .markdown import markdown
from .page import page
from .table import as_json

if TYPE_CHECKING:
    from ..protocols.base import Protocol
    from ..runner import Run

FORMATS = ("png", "pdf")


def write_report(
    run: Run,
    protocol: Protocol,
    reference: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> list[Path]:
    """Write ``report.md``, ``report.html``, ``results.json`` and the figures into the run's folder.

    The same rows give the same bytes on every machine with the same libraries.

    Args:
        run: finished or not; the report says how many images are done.
        protocol: of the run.
        reference: the method that the others are compared with; the best where None (see ``collect``).
        level: of the confidence intervals.
        resamples: for the intervals.

    Returns:
        The files.

    Raises:
        InputError: no rows, another protocol, or a file cannot be written. NotFoundError: no such method.
        MissingExtraError: a library is missing.
    """
    return write_results(collect(run, protocol, reference, level=level, resamples=resamples), run.folder)


def write_results(results: Results, folder: Path) -> list[Path]:
    """The files of ``write_report`` from collected results."""
    from ...view.save import render
    from .figures import differences_figure, means_figure

    drawn = {"means": means_figure(results)}
    if len(results.lines) > 1:
        drawn["differences"] = differences_figure(results)
    blocks = document(results)
    vectors = {name: render(figure, "svg") for name, figure in drawn.items()}
    contents = {f"{name}.{form}": render(figure, form) for name, figure in drawn.items() for form in FORMATS}
    contents["report.md"] = markdown(blocks).encode()
    contents["report.html"] = page(blocks, vectors).encode()
    contents["results.json"] = as_json(results).encode()
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        try:
            write_whole(path, content)
        except OSError as error:
            raise refusal(path, error, "all rows are kept") from error
    return paths
