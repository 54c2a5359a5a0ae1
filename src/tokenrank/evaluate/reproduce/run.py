"""Run of a published experiment: what it needs, said before any work is done, and the comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError, NotFoundError, printable
from ...models import Model, load
from ...plain import plain
from ..datasets.opening import open_dataset
from ..datasets.sample import Dataset
from ..protocols import find
from ..report import collect, find_examples, write_results
from ..report.write import check_links
from ..runner import Run, run
from ..runner.folder import check as check_run_folder
from ..runner.settings import shown_name
from .experiment import Experiment
from .outcome import Outcome, check_folder, judge
from .registry import experiment_of

if TYPE_CHECKING:
    import pandas as pd

DATA = "TOKENRANK_DATA"
"""Environment variable: the folder that holds the data sets' folders."""

OUT = "tokenrank-reproduce"


def models_of(experiment: Experiment, given: str | os.PathLike[str] | Sequence[str] | None) -> tuple[str, ...]:
    """Names of the models to load: those given (commas between several), or the experiment's own.

    Raises:
        InputError: another number of them.
    """
    if given is None:
        return experiment.models
    names = [given] if isinstance(given, os.PathLike) else given.split(",") if isinstance(given, str) else list(given)
    found = tuple(os.fspath(name).strip() for name in names)
    if len(found) != len(experiment.models):
        raise InputError(
            f"{len(found)} models for experiment {experiment.name!r}, expected {len(experiment.models)}, in the place "
            f"of {', '.join(experiment.models)}"
        )
    return found


def folder_of(experiment: Experiment, data: str | os.PathLike[str] | None) -> Path | None:
    """Where the data should be; None where neither ``data`` nor TOKENRANK_DATA says."""
    if data is not None:
        return Path(data).expanduser()
    root = os.environ.get(DATA)
    return Path(root).expanduser() / experiment.folder if root else None


def opened(
    experiment: Experiment, names: Sequence[str], data: str | os.PathLike[str] | None
) -> tuple[list[Model], Dataset]:
    """Models and data set.

    Raises:
        NotFoundError: data or weights are missing; the message names all that is, and where it is looked for.
        InputError: they are there and cannot be used.
    """
    missing = [*_missing_data(experiment, folder_of(experiment, data)), *_missing_weights(experiment, names)]
    if missing:
        raise NotFoundError(f"experiment {experiment.name!r} cannot start: {'; '.join(missing)}")
    folder = folder_of(experiment, data)
    assert folder is not None
    dataset = open_dataset(experiment.dataset, folder, **experiment.dataset_options)
    try:
        return [load(name, kind="image", head=experiment.head) for name in names], dataset
    except NotFoundError as error:
        raise NotFoundError(f"{error}. {_cure(experiment)}") from error


def _missing_data(experiment: Experiment, folder: Path | None) -> list[str]:
    if folder is not None and folder.exists():
        return []
    where = f"{printable(folder)}, which is not there" if folder is not None else f"no folder, as {DATA} is not set"
    return [
        f"data set {experiment.dataset} is looked for in {where}: get {experiment.origin} and give --data DIR, or set "
        f"{DATA} to the folder that holds {experiment.folder}/"
    ]


def _missing_weights(experiment: Experiment, names: Sequence[str]) -> list[str]:
    """Hub ids that are not on this machine while the hub must not be asked."""
    from huggingface_hub import constants, try_to_load_from_cache

    if not constants.HF_HUB_OFFLINE:
        return []
    absent = [
        name
        for name in names
        if name in experiment.models and not isinstance(try_to_load_from_cache(name, "config.json"), str)
    ]
    if not absent:
        return []
    where = f"no weights of {' and '.join(absent)} in the Hugging Face cache, and HF_HUB_OFFLINE is set"
    return [where, _cure(experiment)]


def _cure(experiment: Experiment) -> str:
    form = "its folder" if len(experiment.models) == 1 else "their folders, comma between,"
    return (
        f"needed: {experiment.weights} ({', '.join(experiment.models)}); let it be downloaded once (unset "
        f"HF_HUB_OFFLINE), or give {form} as save_pretrained writes it (config.json, model.safetensors, "
        "preprocessor_config.json) with --model"
    )


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
        seed, batch, other_versions: as in ``run``.
        resamples: of the images, for the report's intervals.

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
