"""Run of an experiment that makes pictures: all arms, their quality, and the comparison with what is published."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError, require
from ..runner.settings import shown_name, weights_digest
from .experiment import Experiment
from .generation import check_data, generate, measured
from .needs import data_of, loaded
from .outcome import Outcome, judge


def reproduce_generation(
    experiment: Experiment,
    names: Sequence[str],
    data: str | os.PathLike[str] | None,
    folder: Path,
    limit: int | None,
    *,
    seed: int = 0,
    batch: int = 8,
) -> Outcome:
    """See ``reproduce``. Pictures of each arm lie in a folder of their own, and are not made again.

    Raises:
        NotFoundError: data or weights are missing. InputError: something cannot be used, or the folder holds the
            pictures of another model or of other seeds.
        MissingExtraError: diffusers or torch-fidelity is not installed.
    """
    generation = experiment.generation
    assert generation is not None
    if limit is not None and limit < 1:
        raise InputError(f"limit = {limit}, expected the number of pictures, 1 or more")
    place = data_of(experiment, names, data)
    check_data(place)
    require("torch_fidelity", "quality")
    (model,) = loaded(experiment, names)
    run = folder / f"run-{weights_digest(model.module)}"
    seeds = range(seed, seed + min(experiment.images, limit or experiment.images))
    for arm in generation.arms:
        generate(model.pipeline, generation, arm, seeds, run / arm, batch)
    figures = measured(generation, run, place)
    pandas = require("pandas", "evaluate")
    rows = pandas.DataFrame([{"key": f"{key:06d}", "method": arm} for arm in figures for key in seeds])
    summary = pandas.DataFrame(list(figures.values()), index=list(figures)).rename_axis("method")
    outcome = Outcome(
        experiment=experiment,
        models=(shown_name(names[0]),),
        judged=tuple(judge(experiment, check, [rows], [summary], seed) for check in experiment.expected),
        measured={shown_name(names[0]): figures},
        images=(len(seeds),),
        failures=0,
        folders=tuple(run / arm for arm in generation.arms),
    )
    return Outcome(**{**vars(outcome), "files": (outcome.write(folder),)})
