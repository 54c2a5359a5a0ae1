"""All sections, one after the other, within a time; what was measured stays, whatever happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import InputError, first_line
from ..evaluate.hardware import hardware, versions
from .clock import Clock
from .report import Report
from .rows import Row
from .task import Section, Task

SECONDS, QUICK_SECONDS = 240.0, 40.0
"""Time of a whole run, and of a quick one, so that it ends within five minutes, and one: what has begun is finished."""

SHARES = {"machine": 0.1, "chain": 0.4, "capture": 0.15, "page": 0.2, "evaluation": 0.15}
"""Section → its share of the time."""


def sections() -> dict[str, Section]:
    """Name → section, in the order in which they run; imported here, since they need all of the package."""
    from .captures import captures
    from .chains import chains
    from .evaluations import evaluations
    from .pages import pages
    from .rates import machine

    return {"machine": machine, "chain": chains, "capture": captures, "page": pages, "evaluation": evaluations}


def device_of(name: str) -> torch.device:
    """What "auto" or the name of a device means.

    Raises:
        InputError: no device of that name, or one that computes nothing in double precision.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device, dtype=torch.float64).sum().item()
    except Exception as error:
        raise InputError(
            f"device {name!r} cannot be used: {first_line(error)}; expected auto, cpu, cuda or cuda:N; torch sees "
            f"{torch.cuda.device_count()} CUDA devices"
        ) from error
    return device


def measure(
    quick: bool = False,
    device: str = "auto",
    *,
    heard: Callable[[Row], None] = lambda row: None,
    begun: Callable[[str], None] = lambda section: None,
    parts: Mapping[str, Section] | None = None,
    seconds: float | None = None,
) -> Report:
    """Run every section.

    Each has a share of the time; what one does not use, the next ones have. A section that fails is a row. Ctrl-C ends
    the run, and the report holds what was measured until then.

    Args:
        quick: small sizes, less than a minute; else less than five.
        device: "auto", "cpu", "cuda", "cuda:1" …
        heard: is told every row as soon as it is measured.
        begun: is told the name of a section when it begins.
        parts: name → section; all where None.
        seconds: the time; ``QUICK_SECONDS`` or ``SECONDS`` where None.

    Raises:
        InputError: no such device.
    """
    where, begin = device_of(device), time.perf_counter()
    whole = (QUICK_SECONDS if quick else SECONDS) if seconds is None else seconds
    rows: list[Row] = []
    load, complete = _load(), True

    def add(row: Row) -> None:
        rows.append(row)
        heard(row)

    try:
        found = sections() if parts is None else parts
        shares = {name: SHARES.get(name, 1 / len(found)) for name in found}
        for number, (name, section) in enumerate(found.items()):
            begun(name)
            now = time.perf_counter()
            rest = sum(list(shares.values())[number:])
            end = now + max(0.0, begin + whole - now) * shares[name] / rest
            try:
                for row in section(Task(Clock(where, end), quick)):
                    add(row)
            except Exception as error:
                add(Row(name, "", "", None, failed=f"{type(error).__name__}: {first_line(error)}"))
    except KeyboardInterrupt:
        complete = False
    about: dict[str, Any] = {"device": str(where), "quick": quick, "complete": complete}
    if load is not None:
        about["load"] = load
    about |= {"versions": versions(), "hardware": hardware()}
    return Report(time.strftime("%Y-%m-%d"), round(time.perf_counter() - begin, 1), about, tuple(rows))


def _load() -> float | None:
    """Processes that wanted a core in the last minute, before this began; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None
