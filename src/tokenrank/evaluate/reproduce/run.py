"""Run of a published experiment: what it needs, said before any work is done, and the comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...plain import plain
from ..protocols import find
from ..report import collect, find_examples, write_results
from ..report.write import check_links
from ..runner import Run, run
from ..runner.folder import check as check_run_folder
from ..runner.settings import shown_name
from .experiment import Experiment
from .generated import reproduce_generation
from .needs import models_of, opened
from .outcome import Outcome, check_folder, judge
from .registry import experiment_of

if TYPE_CHECKING:
    import pandas as pd

OUT = "tokenrank-reproduce"


def reproduce(
    name: str | Experiment,
    data: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    *,
    seed: int = 0,
    batch: int = 8,
    resamples: int = 1000,
    other_versions: bool = False,
) -> Outcome:
    """Run a published experiment anew and compare the figures with the published ones.

    What is missing, of data and weights, is said before any work is done. Each model's run has a folder of its own
    with rows and report, and goes on where it stopped when called again. Published figures are judged on the whole
    data set only; orders of methods on the images that ran, by a paired Wilcoxon test.

    Args:
        name: of ``EXPERIMENTS``, or an experiment of your own.
        data: folder of the data set; TOKENRANK_DATA/… where None.
        model: the weights elsewhere than on the hub: a folder, or several.
        out: folder for runs, reports and outcome.json; tokenrank-reproduce/… where None.
        limit: so many images, drawn by the seed.
        seed, batch, other_versions: as in ``run``; where pictures are generated, ``seed`` is that of the first.
        resamples: of the images, for the report's intervals.

    Raises:
        NotFoundError: no such experiment; data or weights are missing.
        InputError: something cannot be used, or the folder holds another run.
        MissingExtraError: a library is missing.
    """
    experiment = experiment_of(name) if isinstance(name, str) else name
    names = models_of(experiment, model)
    folder = Path(OUT) / experiment.name.replace("/", "-") if out is None else Path(out).expanduser()
    check_folder(folder)
    if experiment.generation is not None:
        return reproduce_generation(experiment, names, data, folder, limit, seed=seed, batch=batch)
    protocol = find(experiment.protocol, **experiment.options)
    methods = protocol.methods(experiment.methods)
    for place in range(len(names)):
        check_run_folder(folder / f"run-{place + 1}")
        check_links(folder / f"run-{place + 1}")
    models, dataset = opened(experiment, names, data)
    protocol.check(dataset)

    runs: list[Run] = []
    files: list[Path] = []
    for place, loaded in enumerate(models):
        place_of_run = folder / f"run-{place + 1}"
        done = run(
            protocol, dataset, loaded, methods, place_of_run,
            seed=seed, limit=limit, batch=batch, other_versions=other_versions,
        )  # fmt: skip
        runs.append(done)
        results = collect(done, protocol, resamples=resamples)
        files += write_results(results, done.folder, find_examples(results, protocol, dataset, loaded, methods))
    rows = [finished.rows() for finished in runs]
    summaries = [protocol.summary(frame) for frame in rows]
    shown = tuple(map(shown_name, names))
    labels = [name if shown.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(shown)]
    outcome = Outcome(
        experiment=experiment,
        models=shown,
        judged=tuple(judge(experiment, check, rows, summaries, seed) for check in experiment.expected),
        measured={label: _figures(summary) for label, summary in zip(labels, summaries, strict=True)},
        images=tuple(int(frame["key"].nunique()) for frame in rows),
        failures=sum(len(finished.failures) for finished in runs),
        folders=tuple(finished.folder for finished in runs),
    )
    files.append(outcome.write(folder))
    return Outcome(**{**vars(outcome), "files": tuple(files)})


def _figures(summary: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Method → the figures that are single numbers; None for NaN, which JSON has not."""
    return {
        str(method): {
            str(name): plain(float(value))
            for name, value in line.items()
            if isinstance(value, int | float | np.integer | np.floating)
        }
        for method, line in summary.iterrows()
    }
