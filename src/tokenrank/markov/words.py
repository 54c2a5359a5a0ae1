"""Words for numbers: what is short enough for one line."""

from __future__ import annotations

import torch
from torch import Tensor


def counted(count: str, noun: str) -> str:
    """A number and what it counts: "1 class", "12 classes", "2 × 12 chains"."""
    return f"{count} {noun}" if count == "1" else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def number_words(number: float) -> str:
    """Four digits; of what is just below one, as a slow mode is, what is missing: "1 − 1.9e-06"."""
    return f"1 − {1 - number:.1e}" if 0 < 1 - number < 5e-4 else f"{number:.4g}"


def range_words(values: Tensor) -> str:
    """From where to where numbers go, and in words how many are none, as "0.1 … 12, 3 of 96 infinite" does."""
    if values.dtype == torch.bool:
        return f"{int(values.sum())} of {values.numel()} true"
    if values.is_complex():
        return f"moduli {range_words(values.abs())}"
    finite = values[torch.isfinite(values)] if values.is_floating_point() else values
    words = []
    if finite.numel():
        words.append(" … ".join(dict.fromkeys(map(number_words, (float(finite.min()), float(finite.max()))))))
    for test, name in ((torch.isinf, "infinite"), (torch.isnan, "not defined")):
        if count := int(test(values).sum()):
            words.append(f"{count} of {values.numel()} {name}" if values.numel() > 1 else name)
    return ", ".join(words) or "no numbers"
