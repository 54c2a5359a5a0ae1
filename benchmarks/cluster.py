"""Pictures a second with workers of a Ray cluster on this machine, and what the process that drives them can take.

    python -m benchmarks.cluster --out benchmarks/results/cluster.json

The bundled network on photographs of the package: here, then with 1 and 2 workers of one processor each, counted from
the second batch on, so that start-up stands apart. Then what does not grow with workers: batches that go through a
cluster without any work, parts that are written, files that are digested. A plan for a large cluster rests on these
(docs/howto/cluster.md).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

import tokenrank as tr
from tokenrank import samples
from tokenrank.evaluate.runner.parts import Parts
from tokenrank.evaluate.runner.settings import digest_of_files
from tokenrank.mapping.sources import Named, named_sources
from tokenrank.mapping.work import Apply
from tokenrank.models import load
from tokenrank.workers import Done, Engine, engine_of
from tokenrank.workers.cluster import connected

from .facts import facts, parser, save


def answers(observation: tr.Observation) -> dict[str, float]:
    """A few of the answers that people ask of every picture."""
    rank = observation.chain().tokenrank().values
    return {"lambda2": float(observation.lambda2().values.max()), "most": float(rank.max())}


def nothing(source: str) -> dict[str, float]:
    return {"length": float(len(source))}


def photographs(folder: Path, count: int) -> list[str]:
    """``count`` files, copies of the package's photographs."""
    paths = [samples.path(samples.names()[i % len(samples.names())]) for i in range(count)]
    return [shutil.copy(path, folder / f"{i:05}-{path.name}") for i, path in enumerate(paths)]


def timed(engine: Engine, work: Apply, items: Sequence[Named], batch: int) -> dict[str, float]:
    """Seconds to the first batch, and items a second after it."""
    batches = [items[begin : begin + batch] for begin in range(0, len(items), batch)]
    begin = time.perf_counter()
    ends: list[float] = []
    counted = 0
    for done in engine.results(work, batches):
        assert not done.failures, done.failures
        ends.append(time.perf_counter())
        counted += len(done.keys)
    assert counted == len(items)
    return {"first": ends[0] - begin, "rate": (counted - batch) / (ends[-1] - ends[0]), "all": ends[-1] - begin}


def medians(engine: Engine, work: Apply, items: Sequence[Named], repeats: int) -> dict[str, float]:
    runs = [timed(engine, work, items, batch=4) for _ in range(repeats)]
    return {key: median(run[key] for run in runs) for key in runs[0]}


def writing(folder: Path, batch: int, count: int) -> dict[str, float]:
    """Parts a second, and bytes of a row."""
    parts = Parts(folder, "0" * 16)
    parts.tidy()
    numbers = torch.rand(batch, 12, dtype=torch.float64).tolist()
    begin = time.perf_counter()
    for number in range(count):
        rows = tuple(
            {"key": f"{number:06}/{i:06}.jpg", "method": "tokenrank", **{f"score{j}": x for j, x in enumerate(line)}}
            for i, line in enumerate(numbers)
        )
        parts.write(Done(tuple(str(row["key"]) for row in rows), rows))
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in (folder / "parts").iterdir())
    return {"batch": batch, "parts_a_second": count / seconds, "bytes_a_row": size / (count * batch)}


def digesting(paths: Sequence[str]) -> dict[str, float]:
    """Megabytes a second of files that the system has in its memory."""
    size = sum(Path(path).stat().st_size for path in paths)
    begin = time.perf_counter()
    for path in paths:
        digest_of_files([Path(path)])
    seconds = time.perf_counter() - begin
    return {"megabytes_a_second": size / seconds / 1e6, "files_a_second": len(paths) / seconds}


def measured(pictures: int, empty: int, repeats: int) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        paths = photographs(folder / "pictures", pictures)
        items, work = named_sources(paths), Apply(answers, load("bundled"))
        yield {"what": "here", "pictures": pictures, **medians(engine_of("local"), work, items, repeats)}
        begin = time.perf_counter()
        with connected(None, 200 << 20, {}):
            yield {"what": "start of a cluster", "seconds": time.perf_counter() - begin}
            for n in (1, 2):
                found = medians(engine_of("ray", workers=n, cpus=1), work, items, repeats)
                yield {"what": f"{n} workers", "pictures": pictures, **found}
            light, sources = Apply(nothing, None), named_sources([f"source {i}" for i in range(empty)])
            found = timed(engine_of("ray", workers=2, cpus=1), light, sources, batch=1)
            yield {"what": "batches without work", "count": empty, "a_second": found["rate"]}
        yield {"what": "parts", **writing(folder, batch=64, count=100)}
        yield {"what": "digests", **digesting(paths)}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pictures", type=int, default=48)
    arguments.add_argument("--empty", type=int, default=1000, help="batches without work")
    arguments.add_argument("--repeats", type=int, default=3)
    args = arguments.parse_args()
    about = facts("ray") | {"load_before": os.getloadavg()[0]}
    rows = []
    for row in measured(args.pictures, args.empty, args.repeats):
        rows.append(row)
        print(
            ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{value}" for name, value in row.items())
        )
    save(args.out, about, rows)


if __name__ == "__main__":
    main()
