"""The result of a run: as JSON, one row a line, and as a table to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import InputError
from ..plain import plain
from .rows import Row, short

FORMAT = 1


@dataclass(frozen=True)
class Report:
    """What was measured, and on what.

    Attributes:
        date: of the run.
        seconds: that it took.
        about: plain values: device, quick, complete (False where it was interrupted), load (processes that wanted a
            core before it began), versions, hardware.
        rows: in the order in which they were measured.
    """

    date: str
    seconds: float
    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows of what could not be measured."""
        return tuple(row for row in self.rows if row.failed)

    def json(self, **first: Any) -> str:
        """The file's text: ``first``, then the facts, then the rows, one a line."""
        head = {**first, "format": FORMAT, "date": self.date, "seconds": self.seconds, **self.about}
        opened = json.dumps(plain(head, digits=6), indent=1, ensure_ascii=False).removesuffix("\n}")
        rows = ",\n".join("  " + json.dumps(plain(_short(row), digits=6), ensure_ascii=False) for row in self.rows)
        return f'{opened},\n "rows": [\n{rows}\n ]\n}}\n'

    def table(self) -> str:
        """Sections with their rows: what, by whom, seconds, times what it is compared with, what else is known."""
        lines: list[str] = []
        for section in dict.fromkeys(row.section for row in self.rows):
            those = [row for row in self.rows if row.section == section]
            lines += ["", section, *_aligned([cells(row) for row in those])]
        return "\n".join(lines[1:])


def read_report(text: str) -> Report:
    """What ``Report.json`` wrote.

    Raises:
        InputError: no such file, or one of another format.
    """
    try:
        found = json.loads(text)
        rows = tuple(Row(**row) for row in found["rows"])
        date, seconds, form = found["date"], found["seconds"], found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no result of tokenrank bench ({type(error).__name__}: {error}); write one with --out"
        ) from error
    if form != FORMAT:
        raise InputError(f"a result of tokenrank bench in format {form}, expected {FORMAT}; measure anew")
    known = {"made", "command", "format", "date", "seconds", "rows"}
    return Report(date, seconds, {name: value for name, value in found.items() if name not in known}, rows)


def cells(row: Row) -> list[str]:
    """What is done, by whom, how long, how often that of the other, what else."""
    if row.failed:
        return [row.name or row.section, row.by, "failed", "", row.failed]
    assert row.seconds is not None
    if "rate" in row.more:
        return [row.name, row.by, rate_words(row.more["rate"], row.more["unit"]), "", ""]
    ratio = "" if row.ratio is None else f"{row.ratio:.3g} ×"
    return [row.name, row.by, duration(row.seconds), ratio, ", ".join(_notes(row.more))]


def duration(seconds: float) -> str:
    """12.3 s, 249 ms, 7.7 ms, 35 µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def rate_words(rate: float, unit: str) -> str:
    """50.8 GB/s, 1.2 TFLOP/s, 512 k/s."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.3g} {letter}{unit}" if unit != "1/s" else f"{rate / size:.3g} {letter}/s"
    return f"{rate:.3g} {unit}"


def _notes(more: Mapping[str, Any]) -> Iterator[str]:
    if more.get("error") is not None:
        yield f"off by {short(more['error'])}"
    if more.get("bound") is not None:
        yield f"proved {short(more['bound'])}"
    if "steps" in more:
        yield f"{more['steps']} steps" + (f" in {more['dtype']}" if more.get("dtype") == "float64" else "")
    if more.get("reached") is False:
        yield "not reached"
    if "bytes" in more:
        yield f"{more['bytes'] / 1e6:.1f} MB"
    if "per_second" in more:
        yield f"{more['per_second']:.3g} a second"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; a name is said once; seconds and ratios stand to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines, before = [], ""
    for name, by, seconds, ratio, notes in rows:
        shown = "" if name == before else name
        before = name
        words = (shown.ljust(widths[0]), by.ljust(widths[1]), seconds.rjust(widths[2]), ratio.rjust(widths[3]), notes)
        lines.append("  " + "  ".join(words).rstrip())
    return lines


def _short(row: Row) -> dict[str, Any]:
    """Without what says nothing."""
    plain_row = asdict(row)
    defaults = {field.name: field.default for field in fields(Row)}
    return {
        name: value for name, value in plain_row.items()
        if not (value == defaults[name] or (name == "more" and not value))
    }  # fmt: skip
