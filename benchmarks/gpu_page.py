"""The table of docs/gpu.md: goals of the device path, what there was before it, and benchmarks/results/gpu.json.

    python -m benchmarks.gpu_page

Without that file the column of what is measured now is empty, and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from filled import RESULTS, SPACE, fill, result, source, table

from benchmarks.device.goals import GOALS, TIMES_LOOP, Goal
from benchmarks.facts import parser

BEFORE = {
    ("Aᵀx, 24 × 4,608 × 128", "times_forward"): 11.6 / 0.42,
    ("Aᵀx, 24 × 16,384 × 128", "times_forward"): 143 / 5.4,
    ("TokenRank to 1e-4, 12 × 1,024 × 64", "seconds"): 27e-3,
    ("TokenRank to 1e-6, 12 × 1,024 × 64", "seconds"): 39e-3,
    ("TokenRank to 1e-4, 24 × 4,608 × 128", "seconds"): 210e-3,
    ("TokenRank to 1e-6, 24 × 4,608 × 128", "seconds"): 267e-3,
    ("TokenRank to 1e-4, 24 × 16,384 × 128", "seconds"): 5.031,
    ("TokenRank to 1e-4, 24 × 16,384 × 128", "peak_mib"): 57841.0,
    ("|λ2|, 24 × 4,608 × 128", "seconds"): 1.049,
}
"""Measured once by hand on one H200: commit e162054, torch 2.11.0+cu130. No file of results is kept."""
WORDS = {"seconds": "time", "peak_mib": "peak memory", "times_forward": "times a forward attention in bfloat16"}


def found() -> dict[str, Any] | None:
    """The result of a GPU, where there is one."""
    return result("gpu") if (RESULTS / "gpu.json").exists() else None


def goals() -> str:
    """Goal, before, now, floor; a row for the paper's loop."""
    measured = found()
    rows = []
    for goal in GOALS:
        row = _row(measured, goal.row)
        now = None if row is None else row.get(goal.field)
        floor = row.get("floor_s") if row is not None and goal.field == "seconds" else None
        rows.append([
            goal.row.replace("|λ2|", r"\|λ2\|"), WORDS[goal.field], _value(goal, goal.most),
            _value(goal, BEFORE.get((goal.row, goal.field))), _value(goal, now), _value(goal, floor),
        ])  # fmt: skip
    rows.append(["every answer", "times faster than the loop", f"≥ {TIMES_LOOP:g}", "0.2 … 0.5", _least(measured), "–"])
    head = ["heads × tokens × width", "", "goal", "before", "now", "floor"]
    about = (
        "*Not measured: `python -m benchmarks.gpu` was not run on a GPU yet.*" if measured is None else source(measured)
    )
    return f"{about}\n\n{table(head, rows, right=2)}"


def _row(measured: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    return next((row for row in measured["rows"] if row["name"] == name), None) if measured else None


def _least(measured: dict[str, Any] | None) -> str:
    times = [row["times_loop"] for row in measured["rows"] if row.get("times_loop")] if measured else []
    return f"{min(times):.1f}" if times else "–"


def _value(goal: Goal, value: float | None) -> str:
    if value is None:
        return "–"
    if goal.field == "seconds":
        return f"{1e3 * value:.3g}{SPACE}ms" if value < 1 else f"{value:.2f}{SPACE}s"
    return f"{value * 2**20 / 1e9:.1f}{SPACE}GB" if goal.field == "peak_mib" else f"{value:.1f}"


TABLES = {"goals": goals}


def main() -> None:
    parser(__doc__, out=False).parse_args()
    fill("gpu.md", TABLES)


if __name__ == "__main__":
    main()
