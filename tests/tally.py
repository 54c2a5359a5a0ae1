"""How many cases the property tests tried, and how many blocks of the pages ran; printed at the end of a run."""

from __future__ import annotations

from collections import Counter

cases: Counter[str] = Counter()
blocks: Counter[str | None] = Counter()
"""Python blocks of the pages by why they were not run; None for those that were."""


def count(name: str) -> None:
    """One case more."""
    cases[name] += 1
