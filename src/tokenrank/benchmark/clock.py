"""Seconds and peak memory of a call, on whatever device it runs; several calls in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Run = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """Of one call.

    Attributes:
        taken: seconds of each run, warm-up aside.
        peak_bytes: how far the device's memory rose above what was allocated before; None on a CPU.
    """

    taken: tuple[float, ...]
    peak_bytes: int | None = None

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.taken)

    @property
    def runs(self) -> int:
        """How many there were."""
        return len(self.taken)

    def over(self, other: Timing) -> float:
        """How often it takes as long as another call of the same rounds: the median over rounds."""
        return statistics.median(a / b for a, b in zip(self.taken, other.taken, strict=True))


class Clock:
    """Measures calls on one device.

    Args:
        device: where they run; on CUDA a call ends when the device has finished.
        end: ``time.perf_counter()`` after which no further round begins; never where None. What has begun is finished.
    """

    def __init__(self, device: torch.device | str = "cpu", end: float | None = None) -> None:
        self.device, self.end = torch.device(device), end

    @property
    def left(self) -> float:
        """Seconds until the end; infinite where there is none."""
        return float("inf") if self.end is None else self.end - time.perf_counter()

    def wait(self) -> None:
        """Until the device has finished what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def once(self, run: Run) -> tuple[float, Any]:
        """Seconds of a call, and what it gave; on CUDA by events, which hold the host's work and not the last wait."""
        self.wait()
        if self.device.type == "cuda":
            return self._between_events(run)
        begin = time.perf_counter()
        found = run()
        return time.perf_counter() - begin, found

    def timed(self, run: Run, rounds: int = 5, most: float = 2.0) -> Timing:
        """Of a call that is made once before, to warm up.

        Args:
            rounds: how often it is made, one at least.
            most: seconds after which it is not made again.
        """
        _, _ = self.once(run)
        before = self._begin_peak()
        taken: list[float] = []
        while len(taken) < rounds and sum(taken) <= most and (not taken or self.left > 0):
            taken.append(self.once(run)[0])
        return Timing(tuple(taken), self._peak_over(before))

    def in_turn(self, runs: Mapping[str, Run], rounds: int = 5) -> dict[str, Timing]:
        """Of several calls, one after the other in every round, so that a slow spell of the machine falls on all.

        The first round warms up where there is time for another.
        """
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            if number and self.left <= 0:
                break
            for name, run in runs.items():
                taken[name].append(self.once(run)[0])
        return {name: Timing(tuple(values[1:] or values)) for name, values in taken.items()}

    def _between_events(self, run: Run) -> tuple[float, Any]:
        with torch.cuda.device(self.device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            found = run()
            end.record()
            end.synchronize()
        return begin.elapsed_time(end) / 1e3, found

    def _begin_peak(self) -> int | None:
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        return int(torch.cuda.memory_allocated(self.device))

    def _peak_over(self, before: int | None) -> int | None:
        return None if before is None else int(torch.cuda.max_memory_allocated(self.device)) - before
