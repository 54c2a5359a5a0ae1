"""Rows of a run that must end in time: each is written as soon as it is there, and a failure is a row."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tokenrank.benchmark.clock import Clock, Timing

from ..facts import save

RESERVE = 10.0
"""Seconds of the budget that are kept for the end."""


class Record:
    """What was measured, and how much time is left.

    Args:
        out: file of the result, written anew after every row; None for none.
        about: facts that stand above the rows.
        device: where everything runs.
        budget: seconds for the whole run.
    """

    def __init__(self, out: Path | None, about: Mapping[str, Any], device: torch.device, budget: float) -> None:
        self.out, self.about, self.rows = out, dict(about), list[dict[str, Any]]()
        self.begin, self.budget, self.device = time.perf_counter(), budget, device
        self.clock = Clock(device)
        self._section = ""

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.perf_counter() - self.begin)

    @property
    def over(self) -> bool:
        """Whether the present section has used its share."""
        return self.clock.left <= 0

    def put(self, name: str, **values: Any) -> dict[str, Any]:
        """Add a row of the present section, print it, and write the file."""
        row = {"section": self._section, "name": name, **values, "at_s": round(self.budget - self.left, 1)}
        self.rows.append(row)
        print(words(row), flush=True)
        self.save()
        return row

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.out is not None:
            unfinished = self.out.with_name(f".{self.out.name}.unfinished")
            save(unfinished, {**self.about, "seconds": round(self.budget - self.left, 1)}, self.rows)
            unfinished.replace(self.out)

    def failed(self, name: str, error: BaseException) -> None:
        """Add the row of what could not be measured; its traceback goes to stderr."""
        traceback.print_exception(error)
        first = str(error).strip().split("\n")[0][:200]
        self.put(name, failed=f"{type(error).__name__}: {first}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def attempt(self, name: str, measured: Callable[[], Mapping[str, Any]]) -> dict[str, Any] | None:
        """Add the row that ``measured`` gives, or that of its failure; None then, and where the share is used up."""
        if self.over:
            self.put(name, skipped="the section's share of the time is over")
            return None
        try:
            return self.put(name, **measured())
        except Exception as error:
            self.failed(name, error)
            return None

    def section(self, name: str, share: float, run: Callable[[Record], None]) -> None:
        """Run a part of the benchmark with a share of the whole budget; what it leaves is not lost."""
        self._section = name
        self.clock = Clock(self.device, time.perf_counter() + min(share * self.budget, self.left - RESERVE))
        if self.left < RESERVE + 5:
            self.put("whole section", skipped="the budget is used up")
            return
        begin = time.perf_counter()
        try:
            run(self)
        except Exception as error:
            self.failed("whole section", error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.put("whole section", seconds=time.perf_counter() - begin)


def measured(timing: Timing, **more: Any) -> dict[str, Any]:
    """Median, runs and peak of a timing, and what else is known."""
    peak = {} if timing.peak_bytes is None else {"peak_mib": round(timing.peak_bytes / 2**20)}
    return {"seconds": timing.seconds, "runs": timing.runs, **peak, **more}


def floored(row: Mapping[str, Any], floor: float, of: str) -> dict[str, Any]:
    """With the time that it cannot fall below, what that is, and how often it is taken."""
    return {**row, "floor_s": floor, "floor_of": of, "times_floor": row["seconds"] / floor}


def words(row: Mapping[str, Any]) -> str:
    """A line for whoever watches."""
    head = f"{row['at_s']:6.1f} s  {row['section']:10} {row['name']:58}"
    parts = []
    for name, value in row.items():
        if name in ("section", "name", "at_s"):
            continue
        if name in ("seconds", "floor_s", "loop_s") and value is not None:
            parts.append(f"{name.removesuffix('_s')} {1e3 * value:.4g} ms")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.3g}")
        else:
            parts.append(f"{name} {value}")
    return head + "  ".join(parts)
