"""Numbers of a report as text, and messages without the machine's folders."""

from __future__ import annotations

import math
import re
from typing import Any

from ..statistics import Interval

NONE = "–"

_QUOTED = re.compile(r"'(?:[A-Za-z]:)?[/\\](?:[^'\n]*[/\\])?([^'/\\\n]+)[/\\]?'")
_BARE = re.compile(r"(?<![\w./\\:])(?:[A-Za-z]:)?[/\\](?:[^\s'\"/\\:;,]+[/\\])+(?=[^\s/\\])")


def number(value: Any) -> str:
    """Four decimals; whole numbers as such, very small and very large ones with an exponent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"
    return str(value)


def bounds(found: Interval | None, sign: bool = False) -> str:
    """0.7120 [0.7003, 0.7240]"""
    if found is None:
        return NONE
    plus = "+" if sign and found.estimate > 0 else ""
    if math.isnan(found.low):
        return f"{plus}{number(found.estimate)}"
    return f"{plus}{number(found.estimate)} [{number(found.low)}, {number(found.high)}]"


def probability(p: float | None) -> str:
    """Two digits."""
    return NONE if p is None or math.isnan(p) else f"{p:.2g}"


def duration(seconds: float) -> str:
    """12 ms, 1.3 s, 4 min 5 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return NONE
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00995 else f"{seconds * 1000:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def without_paths(text: str) -> str:
    """A message with the names of files, but not of the folders that they lie in on this machine."""
    return _BARE.sub("", _QUOTED.sub(r"'\1'", text))
