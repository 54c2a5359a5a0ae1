"""Runs in processes of their own that are killed, and what their rows are worth afterwards.

The libraries are imported once; each run is a fork.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 (here, so that not every fork imports it again)
import pyarrow.parquet  # noqa: F401

from tests.evaluate.runs import Brightness, Pictures, run_pictures
from tokenrank.evaluate.runner import Run

IMAGES, BATCH, PAUSE = 40, 3, 0.004
BROKEN = {"image 07": "cannot be read", "image 31": "is empty"}
STEPS = 4  # that a file is written in: content, content on the disk, name, name on the disk


def pictures() -> Pictures:
    return Pictures(IMAGES, BROKEN)


def whole(folder: Path, **options: Any) -> Run:
    """The run in one piece, or the rest of one."""
    return run_pictures(folder, pictures(), batch=BATCH, **options)


def start(folder: Path, prepare: Callable[[], None] = lambda: None) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        prepare()
        run_pictures(folder, pictures(), Brightness(pause=PAUSE), batch=BATCH)
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


def at_random_moments(folder: Path, seed: int = 0) -> int:
    """One run to its end, killed on the way; how often."""
    moments, kills = random.Random(seed), 0
    while True:
        child = start(folder)
        # the first ones early, so that there are some on the fastest machine
        time.sleep(moments.uniform(0.01, 0.06 + 0.03 * kills))
        os.kill(child, signal.SIGKILL)
        if not killed(child):
            return kills
        kills += 1


def inside_writes(folder: Path, seed: int = 0) -> int:
    """The same; the process kills itself within the writing of a file, after half of its content, or before one of the
    other steps."""

    def at(step: int) -> Callable[[], None]:
        def dies(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                nonlocal step
                if not step:
                    if call is write:
                        write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                step -= 1
                return call(*arguments, **options)

            return counting

        def prepare() -> None:
            os.write, os.fsync, os.replace = dies(os.write), dies(os.fsync), dies(os.replace)

        write = os.write
        return prepare

    kills = 0
    while killed(start(folder, at((seed + kills) % (4 * STEPS)))):  # in the record, or in one of the next three files
        kills += 1
    return kills


WAYS: dict[str, Callable[[Path, int], int]] = {
    "killed at a random moment": at_random_moments,
    "killed inside the writing of a file": inside_writes,
}


def table(run: Run) -> list[tuple[tuple[str, str], str]]:
    """((key, method), row) to the last bit, and of failed images what went wrong. Some may stand twice."""
    rows = run.rows()
    told = [((r["key"], r["method"]), repr([_plain(v) for v in r.values()])) for r in rows.to_dict("records")]
    return told + [((r["key"], "failed"), r["error"]) for r in run.failures.to_dict("records")]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def damage(found: list[tuple[tuple[str, str], str]], right: list[tuple[tuple[str, str], str]]) -> dict[str, int]:
    """Rows that are lost, stand twice, or are others than in the undisturbed run."""
    now, then = dict(found), dict(right)
    return {
        "lost": len(then.keys() - now.keys()),
        "doubled": len(found) - len(now),
        "changed": sum(then.get(place) != row for place, row in now.items()),
    }


def campaign(way: str, least: int) -> dict[str, Any]:
    """Runs that are killed until there were ``least`` kills; each goes to its end and is compared with one in a go."""
    counts = {"attack": way, "kills": 0, "evaluations": 0, "lost": 0, "doubled": 0, "changed": 0, "left": 0}
    with tempfile.TemporaryDirectory() as made:
        right = table(whole(Path(made) / "whole"))
        while counts["kills"] < least:
            folder = Path(made) / str(counts["evaluations"])
            counts["kills"] += WAYS[way](folder, counts["evaluations"])
            counts["evaluations"] += 1
            # the killed runs left no lock, and what they left half written goes
            for name, count in damage(table(whole(folder)), right).items():
                counts[name] += count
            counts["left"] += sum(path.name.startswith(".") for path in folder.rglob("*"))
    return counts
