"""Indexing the leading dimensions (batch, heads), never the tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import ChainError


def leading_index(index: Any, batch: torch.Size, tokens: str) -> tuple[Any, ...]:
    """``index`` as a tuple without an ellipsis, that selects something from dimensions ``batch``.

    Args:
        index: whatever a tensor of shape ``batch`` can be indexed with.
        batch: the leading dimensions.
        tokens: what to do instead to select tokens, for the error message.

    Raises:
        ChainError: out of range, too many entries, or nothing selected.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    entries = [torch.from_numpy(e) if isinstance(e, np.ndarray) else e for e in entries]
    try:
        on_cpu = tuple(e.cpu() if isinstance(e, Tensor) else e for e in entries)
        selected = torch.empty(batch, dtype=torch.bool)[on_cpu]
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ChainError(
            f"index {index!r} does not fit the leading dimensions {tuple(batch)}: {error}; {tokens}"
        ) from None
    if not selected.numel():
        raise ChainError(f"index {index!r} selects nothing from the leading dimensions {tuple(batch)}")
    at = next((i for i, entry in enumerate(entries) if entry is Ellipsis), None)
    if at is not None:
        used = sum(_consumed(entry) for entry in entries)
        entries[at : at + 1] = [slice(None)] * (len(batch) - used)
    return tuple(entries)


def _consumed(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, Tensor) and entry.dtype == torch.bool else 1
