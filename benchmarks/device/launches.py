"""How often the host waits for the device, and how many operations it launches: what a small chain costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .record import Record
from .sizes import ALPHA, Size, chain_of, drawn

WAITS = (6, 1 / 8)
"""Most that an answer may take: so many, and so many for each application."""


def launches(record: Record, sizes: Sequence[Size]) -> None:
    """TokenRank and |λ2| of the smallest size."""
    size = sizes[0]
    q, k = drawn(size, record.device)
    questions: dict[str, Callable[[], Any]] = {
        "TokenRank": lambda: chain_of(q, k).tokenrank(ALPHA, tol=1e-4).certificate,
        "|λ2|": lambda: chain_of(q, k).lambda2().certificate,
    }
    for name, run in questions.items():
        record.attempt(f"{name}, launches, {size.words}", lambda run=run: _counted(record, run))


def _counted(record: Record, run: Callable[[], Any]) -> dict[str, Any]:
    run()  # what is done once and kept is not counted
    applies = int(run().applies)
    with _Counting() as seen:
        run()
    operations = seen.count
    found: dict[str, Any] = {"applies": applies, "operations": operations}
    if record.device.type == "cuda":
        found |= {"waits": _waits(run), "waits_goal": WAITS[0] + WAITS[1] * applies}
    return found


class _Counting(TorchDispatchMode):
    """Counts operations but views, which launch nothing; those inside of a CUDA graph are one launch and not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def _waits(run: Callable[[], Any]) -> int:
    """Warnings of CUDA's own watch over synchronisation."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
        return sum("synchron" in str(warning.message) for warning in seen)
    finally:
        torch.cuda.set_sync_debug_mode("default")
