"""Runs in processes of their own that are killed: ``python -m tests.evaluate.killed_runs FOLDER moments|writes``.

The libraries are imported once; each run is a fork.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas  # noqa: F401 (here, so that not every fork imports it again)
import pyarrow.parquet  # noqa: F401

from tests.evaluate.runs import Brightness, Pictures, run_pictures

IMAGES, BATCH, PAUSE = 40, 3, 0.004


def start(folder: Path, prepare: Callable[[], None] = lambda: None) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        prepare()
        run_pictures(folder, Pictures(IMAGES), Brightness(pause=PAUSE), batch=BATCH)
        code = 0
    finally:
        os._exit(code)


def killed(child: int) -> bool:
    """Whether the process was killed; an error if it failed by itself."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the run failed by itself"
    return False


def at_random_moments(folder: Path) -> int:
    moments, kills = random.Random(0), 0
    while True:
        child = start(folder)
        # the first ones early, so that there are some on the fastest machine
        time.sleep(moments.uniform(0.01, 0.06 + 0.03 * kills))
        os.kill(child, signal.SIGKILL)
        if not killed(child):
            return kills
        kills += 1


def at_every_write(folder: Path) -> int:
    """The process kills itself where it would bring a file, or a file's new name, onto the disk."""

    def after(syncs: int) -> Callable[[], None]:
        sync = os.fsync

        def counting(descriptor: int) -> None:
            nonlocal syncs
            if not syncs:
                os.kill(os.getpid(), signal.SIGKILL)
            syncs -= 1
            sync(descriptor)

        def prepare() -> None:
            os.fsync = counting

        return prepare

    kills = 0
    # two for the record, two for each part
    while killed(start(folder, after(kills % 8))):
        kills += 1
    return kills


if __name__ == "__main__":
    way = {"moments": at_random_moments, "writes": at_every_write}[sys.argv[2]]
    print(way(Path(sys.argv[1])))
