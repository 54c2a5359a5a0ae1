"""How many cases the property tests tried, and what of the pages ran; printed at the end of a run."""

from __future__ import annotations

from collections import Counter

cases: Counter[str] = Counter()
blocks: Counter[str | None] = Counter()
"""Python blocks of the pages, and fences that were left out by why they were; None for those that ran."""
commands: Counter[str | None] = Counter()
"""``tokenrank`` lines of the pages in the same way."""


def count(name: str) -> None:
    """One case more."""
    cases[name] += 1
