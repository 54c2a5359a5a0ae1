"""What an experiment needs: models and data, and words for what is missing before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError, NotFoundError, printable, require
from ...models import Model, load
from ..datasets.opening import open_dataset
from ..datasets.sample import Dataset
from .experiment import Experiment

DATA = "TOKENRANK_DATA"
"""Environment variable: the folder that holds the data sets' folders."""


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


def data_of(experiment: Experiment, names: Sequence[str], data: str | os.PathLike[str] | None) -> Path:
    """The folder of the data.

    Raises:
        NotFoundError: data or weights are missing; the message names all that is, and where it is looked for.
    """
    folder = folder_of(experiment, data)
    missing = [*_missing_data(experiment, folder), *_missing_weights(experiment, names)]
    if missing:
        raise NotFoundError(f"experiment {experiment.name!r} cannot start: {'; '.join(missing)}")
    assert folder is not None
    return folder


def opened(
    experiment: Experiment, names: Sequence[str], data: str | os.PathLike[str] | None
) -> tuple[list[Model], Dataset]:
    """Models and data set.

    Raises:
        NotFoundError: data or weights are missing; the message names all that is, and where it is looked for.
        InputError: they are there and cannot be used.
    """
    folder = data_of(experiment, names, data)
    dataset = open_dataset(experiment.dataset, folder, **experiment.dataset_options)
    return loaded(experiment, names), dataset


def loaded(experiment: Experiment, names: Sequence[str]) -> list[Model]:
    """The models; pipelines of a hub are downloaded whole, as diffusers does it.

    Raises:
        NotFoundError: one is not there. InputError: one cannot be used, or is no pipeline where one is needed.
    """
    try:
        models = [
            load(
                _pipeline_folder(name, experiment) if experiment.pipeline else name, kind="image", head=experiment.head
            )
            for name in names
        ]
    except NotFoundError as error:
        raise NotFoundError(f"{error}. {_cure(experiment)}") from error
    for model in models:
        if experiment.pipeline and model.pipeline is None:
            raise InputError(f"model {model.name!r} is no pipeline of diffusers; {_cure(experiment)}")
    return models


def _pipeline_folder(name: str, experiment: Experiment) -> str:
    if name not in experiment.models or Path(name).is_dir():
        return name
    return str(require("diffusers", "diffusers").DiffusionPipeline.download(name, use_safetensors=True))


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
    index = "model_index.json" if experiment.pipeline else "config.json"
    absent = [
        name for name in names if name in experiment.models and not isinstance(try_to_load_from_cache(name, index), str)
    ]
    if not absent:
        return []
    where = f"no weights of {' and '.join(absent)} in the Hugging Face cache, and HF_HUB_OFFLINE is set"
    return [where, _cure(experiment)]


def _cure(experiment: Experiment) -> str:
    form = "its folder" if len(experiment.models) == 1 else "their folders, comma between,"
    pictures = "config.json, model.safetensors, preprocessor_config.json"
    files = "model_index.json and a folder a part" if experiment.pipeline else pictures
    return (
        f"needed: {experiment.weights} ({', '.join(experiment.models)}); let it be downloaded once (unset "
        f"HF_HUB_OFFLINE), or give {form} as save_pretrained writes it ({files}) with --model"
    )
