"""What is stored of a call: heads chosen first, then copied, then moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import CaptureError, InputError
from .arguments import several, whole

Heads = int | slice | Sequence[int] | None


@dataclass
class Keeper:
    """Copies of what attention saw.

    q and k are views of a fused projection, or of a cache that the next call overwrites; a
    reference would pin three times the memory, or change afterwards.

    Args:
        heads: heads to keep, by number (negative from the last), several, or a slice.
        device: where copies are stored; where they were by default.
        dtype: floating type of stored q, k and weights; as they were by default.
    """

    heads: Heads = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    _last_mask: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.device is not None:
            self.device = torch.device(self.device)
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise InputError(f"dtype = {self.dtype!r}, expected a floating type such as torch.float16")
        self.heads = _checked_heads(self.heads)

    def query_key(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of q (…, H, N, d) and k (…, H or a divisor, M, d) for the chosen heads."""
        if self.heads is not None:
            chosen = self._chosen(q)
            if k.shape[-3] != q.shape[-3]:  # grouped heads: each query head takes its key head along
                group = q.shape[-3] // k.shape[-3]
                k = _take(k, [h // group for h in chosen])
            else:
                k = _take(k, chosen)
            q = _take(q, chosen)
        return self._copy(q), self._copy(k)

    def weights(self, weights: Tensor) -> Tensor:
        """A copy of weights (…, H, N, M) for the chosen heads."""
        return self._copy(weights if self.heads is None else _take(weights, self._chosen(weights)))

    def mask(self, mask: Tensor | None, num_heads: int) -> Tensor | None:
        """A copy of a mask, without repetitions; layers that share a mask share the copy.

        None where it lets every query attend to every key.
        """
        if mask is None:
            return None
        mask = _unexpanded(mask.detach())
        if self.heads is not None and mask.ndim >= 3 and mask.shape[-3] > 1:
            mask = _take(mask, self._chosen_of(num_heads))
        if self.device is not None:
            mask = mask.to(self.device)
        if self._last_mask is None or not _same(self._last_mask, mask):
            self._last_mask = _one_row(mask).clone()
        last = self._last_mask
        return None if last.dtype == torch.bool and bool(last.all()) else last

    def forget(self) -> None:
        """Let go of the mask that was kept for comparison."""
        self._last_mask = None

    def _copy(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        if self.device is None and self.dtype is None:
            return tensor.clone()
        return tensor.to(device=self.device or tensor.device, dtype=self.dtype or tensor.dtype, copy=True)

    def _chosen(self, tensor: Tensor) -> list[int]:
        if tensor.ndim < 3:
            raise CaptureError(
                f"heads={self.heads!r}: this attention has shape {tuple(tensor.shape)} and no dimension of heads; "
                "leave heads out, or choose other layers"
            )
        return self._chosen_of(tensor.shape[-3])

    def _chosen_of(self, count: int) -> list[int]:
        if isinstance(self.heads, slice):
            return list(range(count))[self.heads]
        assert isinstance(self.heads, list)
        for head in self.heads:
            if not -count <= head < count:
                raise CaptureError(f"head {head} of a layer with {count} heads, expected {-count} … {count - 1}")
        return [head % count for head in self.heads]


def _checked_heads(heads: Heads) -> slice | list[int] | None:
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
    first = mask.narrow(-2, 0, 1) if mask.ndim >= 2 else mask
    return first if _same(first, mask) else mask


def _same(kept: Tensor, mask: Tensor) -> bool:
    """Whether ``kept``, repeated along dimensions of one, is ``mask``."""
    if kept.dtype != mask.dtype or kept.device != mask.device or kept.ndim != mask.ndim:
        return False
    fits = all(a in (1, b) for a, b in zip(kept.shape, mask.shape, strict=True))
    return fits and torch.equal(kept.expand(mask.shape), mask)
