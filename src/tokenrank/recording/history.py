"""Keys of cached decoding, kept once."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyHistory:
    """Keeps the keys of calls that attend to a cache without a copy of the cache each.

    A call with n queries and M > n keys mostly begins with the keys of the call before: then
    only the others are added to one buffer, and the record's k is a view of it. T tokens decoded
    one by one take O(T) memory instead of O(T²). Cross-attention, whose keys stay the same, is
    the case with nothing to add.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], Tensor] = {}

    def remember(self, key: tuple[str, int], kept: Tensor) -> None:
        """``kept`` (…, M, d) was stored for the call ``key`` = (name, place)."""
        self._last[key] = kept

    def extend(self, key: tuple[str, int], k: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """k as stored, sharing its beginning with the last call's; None where it does not begin so."""
        last = self._last.get(key)
        if last is None or last.dtype != dtype or last.device != device or last.is_meta:
            return None
        known, count = last.shape[-2], k.shape[-2]
        if last.shape[:-2] != k.shape[:-2] or last.shape[-1] != k.shape[-1] or known > count:
            return None
        if not torch.equal(last, k[..., :known, :].to(device=device, dtype=dtype)):
            return None
        if known < count:
            last = self._last[key] = _appended(last, k[..., known:, :])
        return last

    def forget(self) -> None:
        """Let go of everything."""
        self._last.clear()


def _appended(kept: Tensor, new: Tensor) -> Tensor:
    """``kept`` followed by ``new``, in the spare room of the buffer under ``kept`` or in a new one."""
    buffer = kept._base if kept._base is not None else kept
    known, count = kept.shape[-2], kept.shape[-2] + new.shape[-2]
    if buffer.shape[:-2] != kept.shape[:-2] or buffer.shape[-2] < count:
        buffer = kept.new_empty(*kept.shape[:-2], 2 * count, kept.shape[-1])
        buffer[..., :known, :] = kept
    buffer[..., known:count, :] = new
    return buffer[..., :count, :]
