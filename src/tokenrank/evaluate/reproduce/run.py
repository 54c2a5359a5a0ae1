"""``reproduce``: run an experiment and compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..protocols import find
from ..report.write import write_report
from ..runner import Run, run
from ..runner.settings import shown_name
from .experiment import Experiment
from .judge import judge
from .needs import models_of, opened
from .outcome import Outcome, check_folder
from .registry import experiment_of

if TYPE_CHECKING:
    import pandas as pd

OUT = "tokenrank-reproduce"

Progress = Callable[[int, int, int], None]


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
    progress: Progress | None = None,
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
        seed, batch: as in ``run``.
        resamples: of the images, for the report's intervals.
        progress: as in ``run``, of each model's run.

    Raises:
        NotFoundError: no such experiment; data or weights are missing.
        InputError: something cannot be used, or the folder holds another run.
        MissingExtraError: a library is missing.
    """
    experiment = experiment_of(name) if isinstance(name, str) else name
    names = models_of(experiment, model)
    protocol = find(experiment.protocol, **experiment.options)
    methods = protocol.methods(experiment.methods)
    folder = Path(OUT) / experiment.name.replace("/", "-") if out is None else Path(out).expanduser()
    check_folder(folder)
    models, dataset = opened(experiment, names, data)
    protocol.check(dataset)

    runs: list[Run] = []
    files: list[Path] = []
    for place, loaded in enumerate(models):
        place_of_run = folder / f"run-{place + 1}"
        done = run(
            protocol, dataset, loaded, methods, place_of_run, seed=seed, limit=limit, batch=batch, progress=progress
        )
        runs.append(done)
        files += write_report(done, protocol, resamples=resamples)
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

    def plain(value: Any) -> Any:
        return None if np.isnan(value) else float(value)

    return {
        str(method): {
            str(name): plain(value)
            for name, value in line.items()
            if isinstance(value, int | float | np.integer | np.floating)
        }
        for method, line in summary.iterrows()
    }
