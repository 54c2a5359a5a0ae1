"""``map``: a function over many sources, here or by the workers of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, require
from ..evaluate.runner.finish import Store, check_batch, finish
from ..evaluate.runner.parts import Parts
from ..evaluate.runner.settings import digest_of, digest_of_run, named, settings_of_model
from ..models import Model, load
from ..models.texts import reads_as_text
from ..plain import plain, utf8
from ..progress import track
from ..reading import Reading
from ..workers import Engine, engine_of
from ..workers.names import EngineName
from .function import settings_of_function
from .mapped import Mapped
from .sources import Named, contents_of_sources, named_sources
from .work import VALUE, Apply


def map(
    sources: Iterable[Any] | Mapping[str, Any],
    function: Callable[[Any], Any],
    *,
    model: str | os.PathLike[str] | Model | None = "bundled",
    engine: EngineName = "local",
    out: str | os.PathLike[str] | None = None,
    batch: int = 8,
    seed: int = 0,
    retry: bool = False,
    other_versions: bool = False,
    address: str | None = None,
    workers: int | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Mapped:
    """A function of what a model attends to, over many pictures, texts or sounds.

    ::

        found = tr.map(paths, lambda obs: {"lambda2": obs.lambda2().values.max()}, out="lambda2")
        found = tr.map(paths, largest, out="lambda2", engine="ray", workers=8, gpus=0.5, address="auto")
        found["cat.jpg"], found.failures, found.frame()

    A source that fails costs the others nothing: it is in ``failures``. With ``out`` every finished batch is a Parquet
    file that is whole or not there, and the same call goes on where it stopped, with whatever engine.

    Args:
        sources: several, as ``tr.observe`` takes them, or a mapping from keys to them. In a list a path or a text is
            its own key, all else has its place. A model reads one kind; which bundled one, the first source says.
        function: of an ``Observation``; returns a mapping of columns, or one value: with ``out`` numbers, text, or
            lists of numbers, otherwise anything (for workers: that can be pickled). Its random numbers depend on seed
            and key alone.
        model: a name for ``tr.load`` or a loaded model, of which every worker has one; None gives the function the
            source itself.
        engine: "local" is this process, "ray" the workers of a Ray cluster (pip install 'tokenrank[distributed]').
            Values are the same to the last digit on the same kind of processor with the same number of threads.
        out: folder for the rows: new, empty, or of the same call. Where None nothing is written. Another function is
            refused: other code, defaults, enclosed values, object of a method, or numbers and texts among its globals;
            a change inside functions that it calls is not seen.
        batch: sources that a worker gets at once, and a part holds.
        seed: of all random numbers.
        retry: run sources again that failed before.
        other_versions: go on with other versions of the libraries than those of the first start.
        address, workers, cpus, gpus, runtime_env: of the cluster; see ``tokenrank.workers.engine_of``.
        reading: what ``tr.observe`` takes beside source and model: ``size``, ``kind``, ``layers`` …

    Raises:
        InputError: arguments that cannot be used, a folder of something else or of other settings, sources whose
            content has changed since, or, with ``out``, the first 16 sources all failing. What is done is kept.
        ClusterError: no cluster, no room in it, or one that lacks the package. MissingExtraError: a library is missing.
    """
    check_batch(batch)
    if not callable(function):
        raise InputError(f"function is a {type(function).__name__}, expected a function of an observation")
    chosen = engine_of(engine, address=address, workers=workers, cpus=cpus, gpus=gpus, runtime_env=runtime_env)
    _check_reading(reading, model)
    items = named_sources(sources)
    loaded = _loaded(model, items[0].source, reading)
    work = Apply(function, loaded, seed, stored=out is not None, reading=reading)
    if out is None:
        return _in_memory(work, items, chosen, batch, other_versions)
    for module in ("pandas", "pyarrow"):
        require(module, "evaluate")
    settings = {
        "map": settings_of_function(function),
        "model": None if loaded is None else settings_of_model(loaded),
        "reading": reading,
        "seed": seed,
        "sources": {"number": len(items), "digest": digest_of(item.key for item in items).hex()[:16]},
    }
    store = Store(Path(out).expanduser(), plain(settings, other=named), contents_of_sources(items), items="sources")
    finish(store, work, items, chosen, batch=batch, retry=retry, other_versions=other_versions)
    return _stored(store, items)


def _check_reading(reading: Mapping[str, Any], model: Any) -> None:
    known = [name for name in Reading.__annotations__ if name not in ("model", "seed", "inputs", "image")]
    if unknown := [name for name in reading if name not in known]:
        raise InputError(f"{unknown[0]} = {reading[unknown[0]]!r}, expected of tr.observe's options {', '.join(known)}")
    if model is None and reading:
        raise InputError(f"{next(iter(reading))}= goes with a model; leave it out, or name a model")


def _loaded(model: Any, first: Any, reading: Mapping[str, Any]) -> Model | None:
    if model is None or isinstance(model, Model):
        return model
    kind = reading.get("kind")
    if kind is None and model == "bundled" and reads_as_text(first):
        kind = "text"
    return load(model, kind=kind)


def _in_memory(work: Apply, items: tuple[Named, ...], engine: Engine, batch: int, other_versions: bool) -> Mapped:
    from ..evaluate.hardware import versions

    batches = [items[begin : begin + batch] for begin in range(0, len(items), batch)]
    values: dict[str, Any] = {}
    failures: dict[str, str] = {}
    results = engine.results(work, batches, None if other_versions else versions)
    for done in track(results, "sources", len(items), counts=lambda done: len(done.keys)):
        values |= {row["key"]: row[VALUE] for row in done.rows}
        failures |= done.failures
    return _ordered(values, failures, items, None)


def _stored(store: Store, items: tuple[Named, ...]) -> Mapped:
    parts = Parts(store.folder, digest_of_run(store.settings))
    table = parts.rows()
    parts.done()
    values = {}
    for row in [] if table is None else table.to_pylist():
        key = row.pop("key")
        values[key] = row[VALUE] if list(row) == [VALUE] else row
    failures = {key: error for key, error in parts.failures().items() if key not in values}
    return _ordered(values, failures, items, store.folder)


def _ordered(
    values: Mapping[str, Any], failures: Mapping[str, str], items: tuple[Named, ...], folder: Path | None
) -> Mapped:
    keys = [utf8(item.key) for item in items]
    return Mapped(
        {key: values[key] for key in keys if key in values},
        {key: failures[key] for key in keys if key in failures},
        folder,
    )
