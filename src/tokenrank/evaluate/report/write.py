"""Files of a report, beside the run's rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError, printable
from ...plain import plain
from ...writing import write_whole
from ..runner.folder import writing
from .collect import LEVEL, RESAMPLES, Line, Results, collect
from .document import document
from .examples import NONE_GIVEN, Examples
from .markdown import markdown
from .page import page
from .words import without_paths

if TYPE_CHECKING:
    from ..protocols.base import Protocol
    from ..runner import Run

FORMATS = ("png", "pdf")
FORMAT = 1
FILES = (
    *(f"{name}.{form}" for name in ("means", "differences") for form in FORMATS),
    *("report.md", "report.html", "results.json"),
)


def write_report(
    run: Run,
    protocol: Protocol,
    reference: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    examples: Examples | None = None,
) -> list[Path]:
    """Write ``report.md``, ``report.html``, ``results.json`` and the figures into the run's folder.

    The same rows give the same bytes on every machine with the same libraries, but for run times, which the two
    reports tell.

    Args:
        run: finished or not; the report says how many images are done.
        protocol: of the run.
        reference: the method that the others are compared with; the best where None (see ``collect``).
        level: of the confidence intervals.
        resamples: for the intervals.
        examples: pictures of what was found, from ``find_examples``, which needs the data set and the model; a run
            keeps none. The report says so where there are none.

    Returns:
        The files.

    Raises:
        InputError: no rows, another protocol, or a file cannot be written. NotFoundError: no such method.
        MissingExtraError: a library is missing.
    """
    results = collect(run, protocol, reference, level=level, resamples=resamples)
    return write_results(results, run.folder, NONE_GIVEN if examples is None else examples)


def check_links(folder: Path) -> None:
    """Raise ``InputError`` where a link stands under the name of a file of a report: it would not be followed."""
    for name in FILES:
        if (folder / name).is_symlink():
            raise InputError(
                f"{printable(folder / name)} is a link, which is not followed; remove it, or choose another folder"
            )


def write_results(results: Results, folder: Path, examples: Examples = NONE_GIVEN) -> list[Path]:
    """The files of ``write_report`` from collected results."""
    from ...view.style import render
    from .figures import differences_figure, means_figure

    drawn = {"means": means_figure(results)}
    if len(results.lines) > 1:
        drawn["differences"] = differences_figure(results)
    blocks = document(results, examples)
    contents = {f"{name}.{form}": render(figure, form) for name, figure in drawn.items() for form in FORMATS}
    contents["report.md"] = markdown(blocks).encode()
    contents["report.html"] = page(blocks).encode()
    contents["results.json"] = as_json(results).encode()
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with writing(path, "all rows are kept"):
            write_whole(path, content)
    return paths


def as_json(results: Results) -> str:
    """All of a report: what is not finite becomes null, paths become names, and nothing depends on when or where."""
    made = {
        "format": FORMAT,
        "headline": results.headline,
        "higher_is_better": results.higher_is_better,
        "reference": results.reference,
        "per_image": results.per_image,
        "statistics": {
            "interval": "percentile bootstrap over images",
            "level": results.level,
            "resamples": results.resamples,
            "seed": results.seed,
            "test": "two-sided Wilcoxon signed-rank, zeros dropped",
            "correction": "Holm",
            "effect": "matched-pairs rank-biserial correlation",
        },
        "images": {"all": results.images, "done": results.done, "failed": len(results.failures)},
        "methods": [_line(line) for line in results.lines],
        "failures": {key: without_paths(error) for key, error in results.failures.items()},
        "problems": {key: without_paths(problem) for key, problem in results.problems.items()},
        "settings": results.settings,
        "installations": list(results.starts),
    }
    return json.dumps(plain(made), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _line(line: Line) -> dict[str, Any]:
    # level stands once, above
    found = {name: value for name, value in asdict(line).items() if value is not None}
    for name in ("headline", "difference"):
        if name in found:
            del found[name]["level"]
    if "paired" in found:
        del found["paired"]["difference"]["level"]
    return found
