"""``run``: every method on every image, in parts that survive whatever ends the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError, printable, require
from ...models import Model
from ...plain import plain, utf8
from ...progress import track
from ...writing import remove_unfinished
from ..hardware import hardware, versions
from .folder import PARTS, RECORD, locked, make, read_record, write_record, writing
from .parts import Parts
from .settings import (
    check_contents,
    check_same,
    check_versions,
    chosen,
    contents_of,
    digest_of_run,
    settings_of,
)
from .work import Work

if TYPE_CHECKING:
    import pandas as pd

    from ..datasets.sample import Dataset
    from ..methods import NamedMethod
    from ..protocols.base import Protocol

PATIENCE = 16
"""So many failures before the first success end a run: it is the settings then, not the images."""


class Run:
    """A run in its folder, finished or not.

    ``run.json`` says what was run and on what, ``parts/`` holds the rows. Reading needs no lock.

    Args:
        folder: of a run that was started.

    Raises:
        InputError: it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        self._parts = Parts(self.folder, digest_of_run(self.record["settings"]))

    @property
    def settings(self) -> dict[str, Any]:
        """What all parts of the run agree on."""
        return dict(self.record["settings"])

    @property
    def keys(self) -> tuple[str, ...]:
        """The images of the run, those included that are not done."""
        return tuple(self.record["keys"])

    @property
    def starts(self) -> tuple[dict[str, Any], ...]:
        """Each start of the run: when, on which versions and hardware, images a part, parts that it set aside."""
        return tuple(self.record["runs"])

    @property
    def problems(self) -> dict[str, str]:
        """Images that the data set itself left out, and why."""
        return dict(self.record["problems"])

    @property
    def complete(self) -> bool:
        """Whether every image is done or failed."""
        return set(self.keys) <= self._parts.done() | set(self._parts.failures())

    def rows(self) -> pd.DataFrame:
        """One row an image and method, in the order of images and methods; columns key, method, and the protocol's.

        A column of lists holds numpy arrays.

        Raises:
            InputError: no image is done, or a part cannot be read.
        """
        table = self._parts.rows()
        if table is None:
            raise InputError(f"the run in {printable(self.folder)} has no rows: {self._nothing()}")
        self._parts.done()
        rows = table.to_pandas()
        images = {key: place for place, key in enumerate(self.keys)}
        strange = set(rows["key"]) - set(images)
        if strange:
            raise InputError(
                f"a part in {printable(self.folder / PARTS)} holds image {printable(min(strange))}, which is none of "
                "the run's; take parts of other runs away"
            )
        methods = {name: place for place, name in enumerate(self.settings["methods"])}
        place = rows["key"].map(images) * (len(methods) + 1) + rows["method"].map(methods).fillna(len(methods))
        return rows.iloc[place.to_numpy().argsort(kind="stable")].reset_index(drop=True)

    def times(self) -> pd.DataFrame:
        """What images took, in seconds: columns key, seconds (in all), forward, and methods (a list in the order of the
        settings). What several methods share is counted to the first that asks for it. NaN where nothing was measured,
        no line for images of versions that did not measure.
        """
        pandas = require("pandas", "evaluate")
        found = pandas.DataFrame(self._parts.times(), columns=["key", "seconds", "forward", "methods"])
        return found.astype({"seconds": float, "forward": float})

    @cached_property
    def failures(self) -> pd.DataFrame:
        """Images that failed, and why: columns key and error."""
        pandas = require("pandas", "evaluate")
        done, found = self._parts.done(), self._parts.failures()
        kept = [(key, found[key]) for key in self.keys if key in found and key not in done]
        return pandas.DataFrame(kept, columns=["key", "error"], dtype=object)

    def _nothing(self) -> str:
        failures = self._parts.failures()
        if not failures:
            return "no image is done yet; start the run again"
        key, error = next(iter(failures.items()))
        return f"all {len(failures)} images failed, {printable(key)} with: {error}"


def run(
    protocol: Protocol,
    dataset: Dataset,
    model: Model,
    methods: Sequence[NamedMethod],
    folder: str | Path,
    *,
    seed: int = 0,
    limit: int | None = None,
    half: int | None = None,
    batch: int = 8,
    retry: bool = False,
    other_versions: bool = False,
) -> Run:
    """Evaluate methods on a data set; a run that was interrupted goes on where it stopped.

    Every finished batch is a file that is whole or not there, so whatever ends the process (an exception, Ctrl-C, a
    kill, a full disk, a power failure) costs the batch at work and nothing else. The rows of an image depend on the
    settings, the seed and the image alone, so a run in pieces gives the rows of one in a go. A part that has become
    unreadable is set aside as ``.broken``, its images run again, and ``run.json`` says so.

    Args:
        protocol: what is measured.
        dataset: the images.
        model: seen by all methods.
        methods: compared with one another; their names differ.
        folder: new, empty, or of a run with the same settings, pictures and versions. Hardware may differ from before;
            each start is recorded in ``run.json``.
        seed: of all random numbers.
        limit: so many images, drawn by the seed; None for all.
        half: 0 takes the images at even places of the data set, 1 those at odd ones, None all: settings chosen on one
            half are reported on the other.
        batch: images a part. Larger ones write less often, smaller ones lose less.
        retry: run images again that failed before.
        other_versions: go on with other versions of the libraries than those that the run was started with.

    Raises:
        InputError: arguments that cannot be used, a folder of something else, settings, versions or files of images
            that differ from those it was started with (each is named), another run at work in it, a file that cannot
            be written, or the first ``PATIENCE`` images all failing. What is done is kept.
        MissingExtraError: a library is missing.
    """
    for module in ("pandas", "pyarrow"):
        require(module, "evaluate")
    if batch < 1:
        raise InputError(f"batch = {batch}, expected the number of images a part, 1 or more")
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods {names}, expected one at least, and no name twice")
    protocol.check(dataset)
    keys = chosen(dataset, seed, limit, half)
    settings = settings_of(protocol, dataset, model, methods, keys, seed, limit, half)
    folder = Path(folder).expanduser()
    make(folder)
    with locked(folder):
        parts = Parts(folder, digest_of_run(settings))
        contents = contents_of(dataset, keys)
        with writing(folder, "nothing is lost"):
            _begin(folder, parts, settings, contents, keys, dataset.problems, batch, retry, other_versions)
        done, failed = parts.done(), parts.failures()
        open_keys = [key for key in keys if utf8(key) not in done and (retry or utf8(key) not in failed)]
        failing = 0 if retry else len(failed.keys() - done)
        finished = len(keys) - len(open_keys)
        work = Work(protocol, dataset, model, tuple(methods), seed)
        batches = [open_keys[begin : begin + batch] for begin in range(0, len(open_keys), batch)]

        def words() -> str:
            return f"images done, {failing} failed"

        for some in track(batches, words, len(keys), counts=len, done=finished):
            result = work(some)
            with writing(folder, f"{finished} of {len(keys)} images are kept"):
                parts.write(result)
            done |= {row["key"] for row in result.rows}
            finished, failing = finished + len(result.keys), failing + len(result.failures)
            if not done and failing >= PATIENCE:
                raise InputError(
                    f"the first {failing} images all failed, the last with: {list(result.failures.values())[-1]}; "
                    "see what is wrong, then start the run again with retry"
                )
    return Run(folder)


def _begin(
    folder: Path,
    parts: Parts,
    settings: Mapping[str, Any],
    contents: Mapping[str, str],
    keys: Sequence[str],
    problems: Mapping[str, str],
    batch: int,
    retry: bool,
    other_versions: bool,
) -> None:
    """Write ``run.json``, or check that it says the same; then add this start to it."""
    contents = {utf8(key): digest for key, digest in contents.items()}
    stored = [utf8(key) for key in keys]
    if (folder / RECORD).exists():
        record = read_record(folder)
        check_same(record["settings"], settings, printable(folder))
        if record["keys"] != stored:
            raise InputError(f"{printable(folder / RECORD)} lists other images than its digest says; it was changed")
        # of images that failed the files may be mended before they run again
        failed = parts.failed()
        check_contents(record["contents"], {k: v for k, v in contents.items() if k not in failed}, printable(folder))
        if retry:
            record["contents"] |= {key: contents[key] for key in failed & contents.keys()}
        if record["runs"] and not other_versions:
            check_versions(record["runs"][-1]["versions"], versions(), printable(folder))
    else:
        record = {"settings": settings, "problems": plain(problems), "runs": [], "keys": stored, "contents": contents}
    remove_unfinished(folder)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    start: dict[str, Any] = {"started": now, "batch": batch, "versions": versions(), "hardware": hardware()}
    start["set_aside"] = parts.tidy()
    record["runs"].append(start)
    write_record(folder, record)
