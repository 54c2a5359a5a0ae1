"""How many cases the property tests tried; printed at the end of a run."""

from __future__ import annotations

from collections import Counter

cases: Counter[str] = Counter()


def count(name: str) -> None:
    """One case more."""
    cases[name] += 1
