"""Pipelines of diffusers from a folder or the hub: its classes and those of transformers, no code and no pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError, TokenRankError, nearest, printable, require
from ..untrusted import read_text
from .load_errors import explain
from .model import Model

INDEX = "model_index.json"
_JSON = 64  # bytes of memory that a byte of JSON becomes, at most
_LIBRARIES = ("diffusers", "transformers")  # and rooms of diffusers' own, such as "stable_diffusion"
_NO_INDEX = ("EntryNotFoundError", "RemoteEntryNotFoundError")
_DENOISERS = ("transformer", "unet")


def is_pipeline_folder(folder: Path) -> bool:
    """Whether a folder was written by ``save_pretrained`` of a pipeline of diffusers."""
    return (folder / INDEX).is_file()


def load_pipeline(name: str, folder: Path) -> Model:
    """A pipeline in float32 on the CPU, as a model whose module is its denoiser.

    Args:
        name: what it is called in messages.
        folder: with ``model_index.json``.

    Raises:
        MissingExtraError: diffusers is not installed.
        InputError: an index with classes of others than diffusers and transformers, or files that do not fit.
    """
    diffusers = require("diffusers", "diffusers")
    # transformers takes a second to import, which `import tokenrank` should not cost
    from .hub import quiet

    kind = _class_of(folder, name, diffusers)
    try:
        # nothing is asked of a hub, and weights as pickles are refused
        with quiet(local=True), _quiet():
            pipe = kind.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                low_cpu_mem_usage=False,
            )  # fmt: skip
    except Exception as error:
        raise explain(name, error) from error
    return of_pipeline(pipe, name)


def load_hub_pipeline(name: str, repository: str, revision: str | None = None) -> Model:
    """``load_pipeline`` of a pipeline on the Hugging Face hub, or of what is cached of it.

    Its index is read first: nothing else is asked for where that names other classes.

    Args:
        name: what it is called in messages.
        repository: "owner/name".
        revision: a commit, tag or branch; the main branch where None.

    Raises:
        NotFoundError: no such repository or revision, or the hub cannot be reached.
        MissingExtraError, InputError: as ``load_pipeline``; a repository without an index.
    """
    diffusers = require("diffusers", "diffusers")
    from huggingface_hub import hf_hub_download

    from .hub import quiet

    try:
        with quiet(local=False):
            index = Path(hf_hub_download(repository, INDEX, revision=revision))
        kind = _class_of(index.parent, name, diffusers)
        with quiet(local=False):
            options = {} if revision is None else {"revision": revision}
            folder = kind.download(repository, use_safetensors=True, trust_remote_code=False, **options)
    except TokenRankError:
        raise
    except Exception as error:
        if type(error).__name__ in _NO_INDEX:
            raise InputError(
                f"model {printable(name)} has no {INDEX}, so it is no pipeline of diffusers; models of transformers "
                f"are named without a prefix: {printable(repository)}"
            ) from error
        raise explain(repository, error) from error
    return replace(load_pipeline(name, Path(folder)), commit=Path(folder).name)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and reports of diffusers, whose only subject is files that are here."""
    from diffusers.utils import logging as reports

    level, bars = reports.get_verbosity(), getattr(reports, "is_progress_bar_enabled", lambda: True)()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def of_pipeline(pipe: Any, name: str | None = None) -> Model:
    """A pipeline that is in memory as a model, whose module is its denoiser.

    Raises:
        InputError: it has none.
    """
    for place in _DENOISERS:
        module = getattr(pipe, place, None)
        if isinstance(module, nn.Module):
            return Model(name or type(pipe).__name__, module, "image", pipeline=pipe)
    raise InputError(f"a {type(pipe).__name__} has no transformer and no unet, expected a pipeline that denoises")


def _class_of(folder: Path, name: str, diffusers: Any) -> Any:
    path = folder / INDEX
    try:
        index = json.loads(read_text(path, "a model_index.json", _JSON))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} is not valid JSON: {error}; write it with save_pretrained") from error
    named = index.get("_class_name") if isinstance(index, dict) else None
    found = getattr(diffusers, named, None) if isinstance(named, str) and named.endswith("Pipeline") else None
    if found is None:
        shown = printable(named) if isinstance(named, str) else repr(named)
        known = [k for k in dir(diffusers) if k.endswith("Pipeline")]
        near = nearest(named, known) if isinstance(named, str) else "expected the name of a class"
        raise InputError(
            f"model folder {printable(name)} is of a pipeline {shown}, which this diffusers "
            f"({diffusers.__version__}) does not have; {near}"
        )
    for part, kind in index.items():
        library = kind[0] if isinstance(kind, list) and kind else None
        if library is not None and library not in _LIBRARIES and not _is_room(diffusers, library):
            raise InputError(
                f"{printable(part)} of model folder {printable(name)} is of {printable(str(library))}, expected "
                f"{' or '.join(_LIBRARIES)}: no other code is run; load it yourself and give the pipeline: model=pipe"
            )
    return found


def _is_room(diffusers: Any, library: Any) -> bool:
    return isinstance(library, str) and library.isidentifier() and hasattr(diffusers.pipelines, library)
