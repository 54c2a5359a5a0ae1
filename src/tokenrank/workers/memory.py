"""Memory that runs out within a batch: its items go once more, one at a time; then it is an error of the item."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from ..errors import first_line
from ..memory import is_out_of_memory
from .work import Done, Item, Work


def attempt(work: Work[Item], items: Sequence[Item]) -> Done | None:
    """The rows of a batch; None where memory ran out for several items, which one at a time may fit.

    An item for which memory does not suffice alone fails. What a failed attempt held is let go.
    """
    try:
        return work(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        words = f"{type(error).__name__}: {first_line(error)}"
    # the error is gone by now, and with it the frames that hold tensors
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) > 1:
        return None
    key = work.key(items[0])
    return Done((key,), (), {key: f"{words}; it was alone: take smaller inputs, or give a worker more memory"})
