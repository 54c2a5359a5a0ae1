"""Evaluations that are killed, and runs whose files were changed: is a row lost, doubled or changed without a word?

    python -m benchmarks.robustness.runs --kills 100 --flips 1000 --out benchmarks/results/robustness-runs.json

An evaluation of 40 pictures, two of which cannot be read, in parts of three is

- killed at random moments, and inside the writing of its files, until it is done (``killed.py``);
- changed in one bit of a part or of ``run.json``;
- given parts of another run, cut, doubled or removed ones, folders, pipes and links in place of its files.

After every change its rows are read and the run is started again. Either must say what is wrong (told), or have
exactly the rows of a run in one go (or say that it is not complete): since the change means nothing (unchanged), or
since the file was set aside and its images ran again (mended). Counted beside are rows that are lost, doubled or
changed, errors that are none of the library's (foreign), waits of more than 20 s (hangs), and hidden files that killed
runs left for good (left). Exit code 1 where one of these is not 0. Linux only.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.facts import facts, parser, save
from benchmarks.robustness.killed import WAYS, campaign, damage, table, whole
from tokenrank.errors import TokenRankError
from tokenrank.evaluate.runner import Run

SECONDS = 20
FALSE = ("lost", "doubled", "changed", "foreign", "hangs", "left")

Change = Callable[[Path, Path, random.Random], None]
"""What is done to a run's folder, beside that of another run."""


def part(folder: Path, draw: random.Random) -> Path:
    return draw.choice(sorted(path for path in (folder / "parts").iterdir() if path.suffix == ".parquet"))


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def number(path: Path, to: int) -> Path:
    kind, _, digest = path.name.split("-")
    return path.with_name(f"{kind}-{to:06}-{digest}")


MAKERS: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda path, other: None,
    "a folder": lambda path, other: path.mkdir(),
    "a pipe": lambda path, other: os.mkfifo(path),
    "a link to another run's": lambda path, other: path.symlink_to(other),
    "a link to nothing": lambda path, other: path.symlink_to("nowhere"),
    "an empty file": lambda path, other: path.write_bytes(b""),
    "another run's": lambda path, other: shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path),
}

CHANGES: dict[str, Change] = {
    "a part cut off": lambda run, other, draw: cut(part(run, draw), draw),
    "run.json cut off": lambda run, other, draw: cut(run / "run.json", draw),
    "a part under two numbers": lambda run, other, draw: shutil.copy(p := part(run, draw), number(p, 90)),
    "another run's part beside": lambda run, other, draw: shutil.copy(
        p := part(other, draw), run / "parts" / number(p, 90).name
    ),
    "another part's content": lambda run, other, draw: shutil.copy(part(run, draw), part(run, draw)),
    "another run's parts, all": lambda run, other, draw: replaced(
        run / "parts", lambda path: shutil.copytree(other / "parts", path)
    ),
}
for what, maker in MAKERS.items():
    CHANGES[f"{what} for a part"] = lambda run, other, draw, maker=maker: replaced(
        part(run, draw), lambda path: maker(path, part(other, draw))
    )
    for name in ("run.json", "run.lock", "parts"):
        CHANGES[f"{what} for {name}"] = lambda run, other, draw, maker=maker, name=name: replaced(
            run / name, lambda path: maker(path, other / name)
        )

BITS: dict[str, Change] = {
    "a bit of a part": lambda run, other, draw: flip(part(run, draw), draw),
    "a bit of run.json": lambda run, other, draw: flip(run / "run.json", draw),
}


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(work: Callable[[], Run], right: list[Any], counts: Counter[str]) -> None:
    """Do it and count what came of it."""
    try:
        with limited():
            found = work()
            rows, complete = table(found), found.complete
    except TokenRankError:
        counts["told"] += 1
    except TimeoutError:
        counts["hangs"] += 1
    except Exception as error:
        print(f"foreign: {error!r}", file=sys.stderr)
        counts["foreign"] += 1
    else:
        wrong = damage(rows, right)
        # a part that is gone cannot be told from one that was never made: the run says that it is not complete
        counts.update(wrong if complete else {**wrong, "lost": 0})
        counts["mended" if found.starts[-1]["set_aside"] else "unchanged"] += 1


def attacked(name: str, change: Change, times: int, seed: int = 0) -> dict[str, Any]:
    """A change, so many times: the rows are read, and the run is started again."""
    draw, counts = random.Random(f"{name} {seed}"), Counter[str]()
    with tempfile.TemporaryDirectory() as made:
        first, other, changed = (Path(made) / word for word in ("first", "other", "changed"))
        right = table(whole(first))
        whole(other, seed=1)
        for _ in range(times):
            shutil.copytree(first, changed)
            beside = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
            change(changed, other, draw)
            reading = Counter[str]()
            judged(lambda: Run(changed), right, reading)
            judged(lambda: whole(changed), right, counts)
            counts.update({"told on reading": reading["told"], **{word: reading[word] for word in FALSE}})
            # a link was followed where another run's files changed
            counts["changed"] += beside != {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
            shutil.rmtree(changed)
    words = ("told on reading", "told", "mended", "unchanged", *FALSE[:-1])
    return {"attack": name, "times": times, **{word: counts[word] for word in words}}


def main() -> None:
    """Run everything and write the counts."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=100, help="of each of the two kinds, at least")
    options.add_argument("--flips", type=int, default=1000, help="bits, half of them in run.json")
    options.add_argument("--times", type=int, default=10, help="every other change")
    given = options.parse_args()
    rows: list[dict[str, Any]] = []

    def told(row: dict[str, Any]) -> None:
        rows.append(row)
        print(row, file=sys.stderr, flush=True)

    for way in WAYS:
        told(campaign(way, given.kills))
    for name, change in BITS.items():
        told(attacked(name, change, -(-given.flips // 2)))
    for name, change in CHANGES.items():
        told(attacked(name, change, given.times))
    counts = {word: sum(row.get(word, 0) for row in rows) for word in ("kills", "evaluations", "times", *FALSE)}
    print(counts)
    save(given.out, {**facts(), **counts}, rows)
    sys.exit(1 if any(counts[word] for word in FALSE) else 0)


if __name__ == "__main__":
    main()
