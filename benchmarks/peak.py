"""Peak memory of one call (Linux)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


def peak_gb(run: Callable[[], object]) -> float:
    """How far the resident memory of this process rises above its present size while ``run`` runs, in GB."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) * 1024 / 1e9


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
