"""``finish``: what is left of a run, batch by batch, by any engine, into parts that survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...errors import InputError, printable
from ...plain import plain, utf8
from ...progress import track
from ...workers import Engine, Local
from ...workers.work import Item, Work
from ...writing import remove_unfinished
from ..hardware import hardware, versions
from .folder import RECORD, locked, make, read_record, write_record, writing
from .parts import Parts
from .settings import check_contents, check_same, check_versions, digest_of_run

PATIENCE = 16
"""So many failures before the first success end a run: it is the settings then, not the images."""


@dataclass(frozen=True)
class Store:
    """Where rows are kept, and what they are rows of.

    Attributes:
        folder: new, empty, or of a run with the same settings and contents.
        settings: plain values that all parts agree on.
        contents: key → digest of what an item holds, as far as it is known.
        problems: items that were left out, and why.
        items: what they are called in words.
    """

    folder: Path
    settings: Mapping[str, Any]
    contents: Mapping[str, str]
    problems: Mapping[str, str] = field(default_factory=dict)
    items: str = "images"


def check_batch(batch: int) -> None:
    """Raise ``InputError`` where a batch has no item."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch = {batch!r}, expected the number of images a part, 1 or more")


def finish(
    store: Store,
    work: Work[Item],
    items: Sequence[Item],
    engine: Engine | None = None,
    *,
    batch: int = 8,
    retry: bool = False,
    other_versions: bool = False,
) -> None:
    """Do what is not done yet. The one process that holds the folder's lock writes, whoever works.

    Args:
        items: all of the run, those included that are done.
        engine: this process where None.
        batch, retry, other_versions: see ``run``.

    Raises:
        InputError, MissingExtraError, ClusterError: see ``run``. What is done is kept.
    """
    engine = Local() if engine is None else engine
    folder = store.folder
    make(folder)
    with locked(folder):
        parts = Parts(folder, digest_of_run(store.settings))
        start: dict[str, Any] = {"batch": batch, "versions": versions(), "hardware": hardware()}
        if by := engine.record():
            start["engine"] = by
        with writing(folder, "nothing is lost"):
            _begin(store, parts, [work.key(item) for item in items], start, retry, other_versions)
        done, failed = parts.done(), parts.failures()
        left = [item for item in items if work.key(item) not in done and (retry or work.key(item) not in failed)]
        failing = 0 if retry else len(failed.keys() - done)
        finished = len(items) - len(left)
        batches = [left[begin : begin + batch] for begin in range(0, len(left), batch)]

        def words() -> str:
            return f"{store.items} done, {failing} failed"

        results = engine.results(work, batches, None if other_versions else versions)
        for result in track(results, words, len(items), counts=lambda result: len(result.keys), done=finished):
            with writing(folder, f"{finished} of {len(items)} {store.items} are kept"):
                parts.write(result)
            done |= {row["key"] for row in result.rows}
            finished, failing = finished + len(result.keys), failing + len(result.failures)
            if not done and failing >= PATIENCE:
                raise InputError(
                    f"the first {failing} {store.items} all failed, the last with: "
                    f"{list(result.failures.values())[-1]}; see what is wrong, then start the run again with retry"
                )


def _begin(
    store: Store, parts: Parts, keys: Sequence[str], start: dict[str, Any], retry: bool, other_versions: bool
) -> None:
    """Write ``run.json``, or check that it says the same; then add this start to it."""
    folder = store.folder
    contents = {utf8(key): digest for key, digest in store.contents.items()}
    if (folder / RECORD).exists():
        record = read_record(folder)
        check_same(record["settings"], store.settings, printable(folder))
        if record["keys"] != keys:
            raise InputError(
                f"{printable(folder / RECORD)} lists other {store.items} than its digest says; it was changed"
            )
        # of images that failed the files may be mended before they run again
        failed = parts.failed()
        now = {key: digest for key, digest in contents.items() if key not in failed}
        check_contents(record["contents"], now, printable(folder), store.items)
        if retry:
            record["contents"] |= {key: contents[key] for key in failed & contents.keys()}
        if record["runs"] and not other_versions:
            check_versions(record["runs"][-1]["versions"], start["versions"], printable(folder))
    else:
        record = {
            "settings": store.settings, "problems": plain(store.problems), "runs": [], "keys": keys,
            "contents": contents,
        }  # fmt: skip
    remove_unfinished(folder)
    begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record["runs"].append({"started": begun, **start, "set_aside": parts.tidy()})
    write_record(folder, record)
