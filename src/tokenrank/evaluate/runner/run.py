"""``run``: every method on every image, in parts that survive whatever ends the process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError, printable, require
from ...models import Model
from ...workers import Engine
from .finish import Store, check_batch, finish
from .folder import PARTS, read_record
from .parts import Parts
from .settings import chosen, contents_of, digest_of_run, settings_of
from .work import Work

if TYPE_CHECKING:
    import pandas as pd

    from ..datasets.sample import Dataset
    from ..methods import NamedMethod
    from ..protocols.base import Protocol


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
    engine: Engine | None = None,
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
        engine: who works, as ``tokenrank.workers.engine_of`` makes it; this process where None. Rows, and with them the
            report, are the same; a run may go on with another engine than it was started with.

    Raises:
        InputError: arguments that cannot be used, a folder of something else, settings, versions or files of images
            that differ from those it was started with (each is named), another run at work in it, a file that cannot
            be written, or the first ``PATIENCE`` images all failing. What is done is kept.
        MissingExtraError: a library is missing. ClusterError: a cluster that does not do the work.
    """
    for module in ("pandas", "pyarrow"):
        require(module, "evaluate")
    check_batch(batch)
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods {names}, expected one at least, and no name twice")
    protocol.check(dataset)
    keys = chosen(dataset, seed, limit, half)
    settings = settings_of(protocol, dataset, model, methods, keys, seed, limit, half)
    folder = Path(folder).expanduser()
    store = Store(folder, settings, contents_of(dataset, keys), dataset.problems)
    finish(
        store, Work(protocol, dataset, model, tuple(methods), seed), keys, engine,
        batch=batch, retry=retry, other_versions=other_versions,
    )  # fmt: skip
    return Run(folder)
