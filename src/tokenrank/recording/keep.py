"""Copies of attention calls: heads chosen first, then copied, then moved; keys of a cache once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import CaptureError, InputError
from .budget import Budget
from .record import AttentionRecord
from .selection import several, whole

HeadSelection = int | slice | Sequence[int] | None


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


@dataclass
class Keeper:
    """Copies of what attention saw.

    q and k are views of a fused projection, or of a cache that the next call overwrites; a
    reference would pin three times the memory, or change afterwards.

    Args:
        heads: heads to keep, by number (negative from the last), several, or a slice.
        device: where copies are stored; where they were by default. On "meta" nothing is stored
            but shapes.
        dtype: floating type of stored q, k and weights; as they were by default.
        budget: how much may be kept.
    """

    heads: HeadSelection = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    budget: Budget = field(default_factory=Budget)
    full: bool = False
    _last_mask: Tensor | None = field(default=None, repr=False)
    _keys: KeyHistory = field(default_factory=KeyHistory, repr=False)

    def __post_init__(self) -> None:
        if self.device is not None:
            self.device = torch.device(self.device)
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise InputError(f"dtype = {self.dtype!r}, expected a floating type such as torch.float16")
        self.heads = _checked_heads(self.heads)

    def chosen(self, seen: AttentionRecord) -> AttentionRecord:
        """The chosen heads of a call, and its mask without repetitions; views, no copies."""
        mask = None if seen.mask is None else _unexpanded(seen.mask.detach())
        if self.heads is None:
            return seen if mask is seen.mask else replace(seen, mask=mask)
        count = self._count(seen)
        heads = self._numbers(count)
        if mask is not None and mask.ndim >= 3 and mask.shape[-3] > 1:
            mask = _take(mask, heads)
        sinks = None if seen.sinks is None else seen.sinks[heads]
        if seen.q is None or seen.k is None:
            assert seen.weights is not None
            return replace(seen, weights=_take(seen.weights, heads))
        key_heads = heads
        if seen.k.shape[-3] != count:  # grouped heads: each query head takes its key head along
            group = count // seen.k.shape[-3]
            key_heads = [h // group for h in heads]
        return replace(seen, q=_take(seen.q, heads), k=_take(seen.k, key_heads), mask=mask, sinks=sinks)

    def kept(self, seen: AttentionRecord) -> AttentionRecord:
        """Copies of the chosen heads of a call.

        Raises:
            CaptureError: no such head, or no memory left.
        """
        record = self.chosen(seen)
        if record.q is None or record.k is None:
            assert record.weights is not None
            return replace(record, weights=self._copy(record.weights, record.name))
        k = self._keys_of(record, record.k)
        q = self._copy(record.q, record.name)
        sinks = None if record.sinks is None else self._copy(record.sinks, record.name)
        return replace(record, q=q, k=k, mask=self._mask(record), sinks=sinks)

    def forget(self) -> None:
        """Let go of what was held for comparison."""
        self._last_mask = None
        self._keys.forget()

    def _copy(self, tensor: Tensor, name: str) -> Tensor:
        tensor = tensor.detach()
        if self.device is None and self.dtype is None:
            self._take_room(tensor.numel() * tensor.element_size(), tensor.device, name)
            return tensor.clone()
        device, dtype = self.device or tensor.device, self.dtype or tensor.dtype
        self._take_room(tensor.numel() * dtype.itemsize, device, name)
        return tensor.to(device=device, dtype=dtype, copy=True)

    def _keys_of(self, record: AttentionRecord, k: Tensor) -> Tensor:
        key = record.name, record.index
        queries, keys = record.shape[-2:]
        if keys > queries:
            device, dtype = self.device or k.device, self.dtype or k.dtype
            shared = self._keys.extend(key, k, device, dtype)
            if shared is not None:
                self._take_room(k[..., :queries, :].numel() * dtype.itemsize, device, record.name)
                return shared
        kept = self._copy(k, record.name)
        self._keys.remember(key, kept)
        return kept

    def _mask(self, record: AttentionRecord) -> Tensor | None:
        """A copy of the mask; layers that share a mask share the copy. None where it hides nothing."""
        mask = record.mask
        if mask is None:
            return None
        if self.device is not None:
            mask = mask.to(self.device)
        if self._last_mask is None or not _same(self._last_mask, mask):
            mask = _one_row(mask)
            self._take_room(mask.numel() * mask.element_size(), mask.device, record.name)
            self._last_mask = mask.clone()
        last = self._last_mask
        return None if last.dtype == torch.bool and not last.is_meta and bool(last.all()) else last

    def _take_room(self, nbytes: int, device: torch.device, name: str) -> None:
        try:
            self.budget.take(nbytes, device, name)
        except CaptureError:
            self.full = True
            raise

    def _count(self, record: AttentionRecord) -> int:
        if len(record.shape) < 3:
            raise CaptureError(
                f"heads={self.heads!r}: this attention has shape {tuple(record.shape)} and no dimension of heads; "
                "leave heads out, or choose other layers"
            )
        return record.shape[-3]

    def _numbers(self, count: int) -> list[int]:
        if isinstance(self.heads, slice):
            return list(range(count))[self.heads]
        assert isinstance(self.heads, list)
        for head in self.heads:
            if not -count <= head < count:
                raise CaptureError(f"head {head} of a layer with {count} heads, expected {-count} … {count - 1}")
        return [head % count for head in self.heads]


def _checked_heads(heads: HeadSelection) -> slice | list[int] | None:
    if heads is None or isinstance(heads, slice):
        return heads
    numbers = []
    for entry in several(heads):
        number = whole(entry)
        if number is None:
            raise InputError(f"heads holds {entry!r}, expected whole numbers or a slice, such as [0, 3] or -1")
        numbers.append(number)
    if not numbers:
        raise InputError("heads is empty, expected at least one number; leave it out for all heads")
    return numbers


def _take(tensor: Tensor, heads: list[int]) -> Tensor:
    if heads == list(range(tensor.shape[-3])):
        return tensor
    if not heads:
        raise CaptureError(f"the slice of heads is empty for a layer with {tensor.shape[-3]} heads")
    first, last = heads[0], heads[-1]
    if heads == list(range(first, last + 1)):
        return tensor.narrow(-3, first, len(heads))
    return tensor.index_select(-3, torch.tensor(heads, device=tensor.device))


def _unexpanded(mask: Tensor) -> Tensor:
    """The mask with repeated dimensions (stride 0) shrunk to one, except the keys'."""
    for dim in range(mask.ndim - 1):
        if mask.shape[dim] > 1 and mask.stride(dim) == 0:
            mask = mask.narrow(dim, 0, 1)
    return mask


def _one_row(mask: Tensor) -> Tensor:
    """A mask of the keys alone, (…, 1, M), where all queries have the same row: padding is that."""
    first = mask.narrow(-2, 0, 1) if mask.ndim >= 2 and not mask.is_meta else mask
    return first if _same(first, mask) else mask


def _same(kept: Tensor, mask: Tensor) -> bool:
    """Whether ``kept``, repeated along dimensions of one, is ``mask``; on "meta", whether it could be."""
    if kept.dtype != mask.dtype or kept.device != mask.device or kept.ndim != mask.ndim:
        return False
    fits = all(a in (1, b) for a, b in zip(kept.shape, mask.shape, strict=True))
    return fits and (mask.is_meta or torch.equal(kept.expand(mask.shape), mask))
