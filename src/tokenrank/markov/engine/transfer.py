"""Several tensors between host and device in one copy: what a device is waited for is the copy, not what is in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def brought(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one device copied to the host, of any shapes and dtypes: waits once."""
    packed, order = _packed(tensors)
    return _unpacked(packed.cpu(), tensors, order)


def sent(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    """Tensors of the host copied to a device, of any shapes and dtypes: waits for nothing.

    On CUDA from memory that is pinned; that was not run on a device.
    """
    packed, order = _packed(tensors)
    if device.type == "cuda":
        packed = packed.pin_memory()
    return _unpacked(packed.to(device, non_blocking=True), tensors, order)


def _packed(tensors: tuple[Tensor, ...]) -> tuple[Tensor, list[int]]:
    """All bytes, those of the widest elements first, so that each tensor begins at a multiple of its own width."""
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].dtype.itemsize)
    plain = [t.resolve_conj().resolve_neg().contiguous().reshape(-1) for t in tensors]
    return torch.cat([plain[i].view(torch.uint8) for i in order]), order


def _unpacked(packed: Tensor, like: tuple[Tensor, ...], order: list[int]) -> list[Tensor]:
    found: list[Tensor] = [packed] * len(like)
    start = 0
    for i in order:
        size = math.prod(like[i].shape) * like[i].dtype.itemsize
        found[i] = packed[start : start + size].view(like[i].dtype).reshape(like[i].shape)
        start += size
    return found
