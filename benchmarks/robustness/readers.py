"""Damaged files through every reader: does one crash, hang, take more memory than is allowed, or answer wrongly?

    python benchmarks/robustness/readers.py [--each 120] [--kinds NAME;NAME] [--bare] [--out FILE]

Of every kind in ``seeds.py`` a good file is damaged in ``--each`` ways (``mutations.py``): bits, stretches, cuts, parts
left out or doubled, extreme numbers in headers, and, where a format has checksums, its inside with the checksums made
to fit. Each is read in a forked process under a limit of memory and 5 seconds, with a budget of 48 MiB. Counted are

- crashes: the process ended by a signal;
- hangs: more than 5 seconds;
- over: more memory than the budget and 64 MiB (code, tables, what malloc keeps), here or in the process apart;
- foreign: errors of another kind than ``tokenrank.errors``, of more than one line, or with what no terminal should get;
- apart: the process apart ended, which is an error like any other;
- wrong: another answer than the good file's where everything is under a checksum that did not fit; an answer whose
  type, shape or range is not what the reader promises; for MATLAB 5, another answer than SciPy's, where it survives.

``--bare`` gives the same files to the parser beneath (SciPy, h5py, pyarrow, Pillow, …) without the library around, with
2 GiB, and counts crashes and hangs there. Exit code 1 where a count of the library is not 0. Linux only.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apart
import numpy as np
from mutations import mutated
from reading import BARE, READERS, bare_matlab, digest
from seeds import KINDS, Kind

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from facts import facts, parser, save

BUDGET = 48 * 2**20
MEMORY = 1024 * 2**20  # of the process that reads: what it takes above the budget is to be counted, not to be refused
BARE_MEMORY = 2 * 2**30


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--each", type=int, default=120, help="damaged files of every kind")
    options.add_argument("--kinds", help="names, semicolons between them; all by default")
    options.add_argument("--bare", action="store_true", help="the parsers beneath, too")
    given = options.parse_args()
    wanted = given.kinds.split(";") if given.kinds else [kind.name for kind in KINDS]
    rows, false = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            if kind.name in wanted:
                rows.append(attack(kind, given.each, Path(folder), given.bare))
                false += sum(rows[-1][name] for name in ("crashes", "hangs", "over", "foreign", "wrong"))
                print(line(rows[-1]), flush=True)
    total = {name: sum(row[name] for row in rows if row.get(name) is not None) for name in COUNTS}
    print(
        line({"kind": "all", **total, "seconds": max(r["seconds"] for r in rows), "mib": max(r["mib"] for r in rows)})
    )
    about = facts("safetensors", "soundfile")
    save(given.out, {**about, "budget": BUDGET, "total": total}, rows)
    return 1 if false else 0


COUNTS = (
    "files", "refused", "same", "read", "crashes", "hangs", "over", "foreign", "wrong", "apart",
    "bare_crashes", "bare_hangs",
)  # fmt: skip


def line(row: dict[str, Any]) -> str:
    bare = f"  bare: {row['bare_crashes']} crashes, {row['bare_hangs']} hangs" if "bare_crashes" in row else ""
    return (
        f"{row['kind']:24} {row['files']:6,} files: {row['refused']:6,} refused, {row['same']:5,} the same answer, "
        f"{row['read']:5,} another; {row['crashes']} crashes, {row['hangs']} hangs, {row['over']} over, "
        f"{row['foreign']} foreign, {row['wrong']} wrong, "
        f"{row['apart']} ended the process apart; at most {row['seconds']:.1f} s, {row['mib']:.0f} MiB{bare}"
    )


def attack(kind: Kind, each: int, folder: Path, bare: bool = False) -> dict[str, Any]:
    """The row of a kind."""
    place = folder / "".join(c if c.isalnum() else "-" for c in kind.name)
    place.mkdir(exist_ok=True)
    path, data, read = place / kind.file, kind.make(place), READERS[kind.reader]
    path.write_bytes(data)
    good = digest(read(path))
    count: Counter[str] = Counter(dict.fromkeys(COUNTS[:10], 0))
    most_seconds, most_bytes = 0.0, 0

    def call(number: int) -> str:
        from tokenrank import reading_budget

        path.write_bytes(mutated(kind.name, data, number)[1])
        with reading_budget(BUDGET):
            return digest(read(path))

    def warm() -> None:
        path.write_bytes(data)
        read(path)

    for number, told in apart.run(call, range(each), MEMORY, warm):
        count["files"] += 1
        most_seconds, most_bytes = max(most_seconds, told.get("seconds", 0)), max(most_bytes, told.get("bytes", 0))
        for verdict in _verdicts(kind, number, told, good, path, data):
            count[verdict] += 1
            if verdict not in ("refused", "same", "read", "apart"):
                print(f"  {kind.name} number {number} ({mutated(kind.name, data, number)[0]}): {verdict}: {told}")
    row = {"kind": kind.name, **count, "seconds": round(most_seconds, 2), "mib": round(most_bytes / 2**20, 1)}
    if bare and kind.reader in BARE:
        row |= _bare(kind, each, path, data)
    for left in place.iterdir():
        left.unlink()
    return row


def _verdicts(kind: Kind, number: int, told: dict[str, Any], good: str, path: Path, data: bytes) -> list[str]:
    if "end" in told:
        return ["hangs" if told["end"] == signal.SIGALRM else "crashes"]
    found = ["over"] if told["bytes"] > BUDGET + apart.SPARE else []
    if "error" in told:
        name, words = told["error"]
        if name == "AssertionError":
            return [*found, "wrong"]
        found += ["apart"] if "ended the process that read it" in words else []
        ours = name in ("InputError", "NotFoundError", "LayoutError", "ChainError") and words.isprintable()
        return [*found, "refused" if ours else "foreign"]
    if told["value"] == good:
        return [*found, "same"]
    change, content = mutated(kind.name, data, number)
    if kind.sealed and change != "checksum repaired":
        return [*found, "wrong"]
    if kind.reader == "regions":
        beside = path.with_name("beside.mat")  # the file itself is being written by the process that reads
        beside.write_bytes(content)
        if not _agrees_with_scipy(beside, told["value"]):
            return [*found, "wrong"]
    return [*found, "read"]


def _agrees_with_scipy(path: Path, found: str) -> bool:
    """Whether SciPy reads the same, or cannot read it and does not matter."""

    def call(_: int) -> str:
        arrays = bare_matlab(path)
        return digest(np.unique(a, return_inverse=True)[1].reshape(a.shape).astype(np.int64) + 1 for a in arrays)

    ((_, told),) = apart.run(call, [0], BARE_MEMORY)
    return "value" not in told or told["value"] == found


def _bare(kind: Kind, each: int, path: Path, data: bytes) -> dict[str, Any]:
    def call(number: int) -> int:
        path.write_bytes(mutated(kind.name, data, number)[1])
        return len(BARE[kind.reader](path))

    ends = [told["end"] for _, told in apart.run(call, range(each), BARE_MEMORY) if "end" in told]
    hangs = ends.count(signal.SIGALRM)
    return {"bare_crashes": len(ends) - hangs, "bare_hangs": hangs}


if __name__ == "__main__":
    begin = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - begin:.0f} s")
    sys.exit(code)
