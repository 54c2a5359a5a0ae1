"""Bars on stderr that show how far a command is, from what ``tokenrank.progress`` tells."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..progress import listening
from .alone import ours
from .report import interrupted, is_quiet, note, one_line, told_above


class Stages:
    """How far a command is with its sources, ``stages(item, stage)``; each finished one leaves a line with its time."""

    def __init__(self, bar: Progress, items: int) -> None:
        self._bar, self._item, self._begun, self._stage = bar, "", time.monotonic(), ""
        self._task = bar.add_task("", total=items)

    def __call__(self, item: str, stage: str) -> None:
        """Say what is done with ``item`` now; another item than before finishes that one."""
        item = one_line(item)
        if item != self._item:
            self.finish()
            self._item, self._begun = item, time.monotonic()
        self._stage = stage
        self._bar.update(self._task, description=f"{item}: {stage}")

    def part(self, words: str, done: int, total: int | None) -> None:
        """Say how far the present stage is, as ``tokenrank.progress`` tells it."""
        count = f" {done} of {total}" if total and total > 1 else ""
        self._bar.update(self._task, description=f"{self._item}: {one_line(words)}{count}")

    def finish(self) -> None:
        """The present item is done."""
        if self._item:
            note(f"{self._item}: {time.monotonic() - self._begun:.1f} s")
            self.drop()

    def drop(self) -> None:
        """The present item is done with, whatever became of it."""
        self._bar.advance(self._task)
        self._item = ""


@contextmanager
def progress(items: int) -> Iterator[Stages]:
    """Show on stderr which of ``items`` is worked on, and at what; each finished one leaves a line with its time."""
    with _bar(*(_count() if items > 1 else ()), TimeElapsedColumn()) as bar:
        stages = Stages(bar, items)
        with listening(stages.part):
            yield stages
        stages.finish()


@contextmanager
def counted(words: str = "getting ready") -> Iterator[None]:
    """Show on stderr how many images are done; a line at the end, also where the run is interrupted.

    Args:
        words: for what happens before anything tells how far it is.
    """
    last: tuple[str, int, int | None] | None = None
    with _bar(*_count(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(words, total=None)

        def listener(words: str, done: int, total: int | None) -> None:
            nonlocal last
            bar.update(task, total=total if total != 1 else None, completed=done, description=one_line(words))
            if words.startswith("images"):  # not what comes before them, such as loading the model
                if last is None and done:
                    note(f"{done} of {total} images were done before")
                last = words, done, total

        try:
            with listening(listener):
                yield
        except KeyboardInterrupt:
            kept = f"{last[1]} of {last[2]} images done; " if last is not None else ""
            interrupted(f"{kept}the same command goes on from there")
        if last is not None:
            words, done, total = last
            note(f"{done} of {total} {words}")


def _count() -> tuple[ProgressColumn, ...]:
    return BarColumn(bar_width=20), MofNCompleteColumn()


@contextmanager
def _bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """A bar behind a spinner and words; nothing is drawn where stderr is no terminal, or nobody wants it."""
    console = Console(file=ours(), highlight=False, soft_wrap=True)
    spinner = "dots" if console.encoding.lower().startswith("utf") else "line"
    unwatched = not console.is_terminal or is_quiet() or os.environ.get("TOKENRANK_PROGRESS", "") == "0"
    bar = Progress(
        SpinnerColumn(spinner), TextColumn("{task.description}", markup=False), *columns,
        console=console, transient=True, redirect_stdout=False, redirect_stderr=False, disable=unwatched,
    )  # fmt: skip
    if unwatched:  # not even begun: before rich 14.2 a bar that is disabled leaves an empty line
        yield bar
        return
    with bar, told_above(bar):
        yield bar
