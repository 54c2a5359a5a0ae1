"""What the device path is to reach on one H200, and how far above the paper's loop it has to be everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TIMES_LOOP = 5.0
"""How many times faster than the paper's loop, at equal true error, every answer is to be."""


@dataclass(frozen=True)
class Goal:
    """Of one row.

    Attributes:
        row: its name.
        field: of the row: seconds, peak_mib, times_forward.
        most: what it may be.
    """

    row: str
    field: str
    most: float


GOALS = (
    Goal("Aᵀx, 24 × 4,608 × 128", "times_forward", 1.5),
    Goal("Aᵀx, 24 × 16,384 × 128", "times_forward", 1.5),
    Goal("TokenRank to 1e-4, 12 × 1,024 × 64", "seconds", 3e-3),
    Goal("TokenRank to 1e-6, 12 × 1,024 × 64", "seconds", 5e-3),
    Goal("TokenRank to 1e-4, 24 × 4,608 × 128", "seconds", 20e-3),
    Goal("TokenRank to 1e-6, 24 × 4,608 × 128", "seconds", 40e-3),
    Goal("TokenRank to 1e-4, 24 × 16,384 × 128", "seconds", 0.4),
    Goal("TokenRank to 1e-4, 24 × 16,384 × 128", "peak_mib", 15e9 / 2**20),
    Goal("TokenRank to 1e-4, 24 × 65,536 × 128", "peak_mib", 4e9 / 2**20),
    Goal("|λ2|, 24 × 4,608 × 128", "seconds", 25e-3),
)


def judged(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for every goal: what was measured, None where it was not, and whether the goal is met.

    Answers that have the paper's loop beside them have a goal each: ``TIMES_LOOP``.
    """
    found = list(rows)
    judgements = []
    for goal in GOALS:
        values = [row[goal.field] for row in found if row["name"] == goal.row and row.get(goal.field) is not None]
        value = values[0] if values else None
        met = value is not None and value <= goal.most
        judgements.append({"name": goal.row, "field": goal.field, "goal": goal.most, "value": value, "met": met})
    for row in found:
        if row.get("times_loop") is not None:
            met = row["times_loop"] >= TIMES_LOOP
            judgements.append(
                {"name": row["name"], "field": "times_loop", "goal": TIMES_LOOP, "value": row["times_loop"], "met": met}
            )
    return judgements
