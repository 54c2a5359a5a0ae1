"""A row of measurements: one call, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one call took.

    Attributes:
        section: which part measured it: "chain", "capture", …
        name: of what was done, "TokenRank, 12 × 1,024".
        by: who did it: "tokenrank", or what it is compared with.
        seconds: median; None where it failed.
        ratio: its seconds over those of ``against``, measured in the same rounds; None where nothing is compared.
        against: the ``by`` of the row that ``ratio`` divides by.
        runs: calls behind the median.
        more: what else is known, in plain values: true error, applies, bytes.
        failed: the error's words; empty where there was none.
    """

    section: str
    name: str
    by: str
    seconds: float | None
    ratio: float | None = None
    against: str = ""
    runs: int = 1
    more: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""


def short(value: float) -> str:
    """1e-4, 2e-9, 0: one digit and its power."""
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"
