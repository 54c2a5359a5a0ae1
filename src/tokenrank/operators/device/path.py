"""On which path products are taken: the host's, or the one made for GPUs, which a CPU can be asked for, too."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from ...errors import ChainError

Path = Literal["host", "device", "ranks"]
"""``"host"``: what a CPU is fastest with. ``"device"``: all heads at once, fused kernels alone, few waits. ``"ranks"``:
tokens are spread over processes, so that products are cheap and rows are not; nobody can ask for that."""


def path_for(device: torch.device, asked: Path | None = None) -> Path:
    """The path of chains whose tensors live on a device: "host" on a CPU, "device" on GPUs of CUDA and ROCm.

    Args:
        device: where the tensors are.
        asked: the path that the caller wants; None for that of the device.

    Raises:
        ChainError: a device without float64 (MPS), "host" for tensors on a GPU, or a path of another name.
    """
    if asked is not None and asked not in ("host", "device"):
        raise ChainError(f"path = {asked!r}, expected 'host', 'device' or None for that of the tensors' device")
    if device.type in ("cpu", "meta"):
        return asked or "host"
    if not _has_double(device.type):
        raise ChainError(
            f"a chain on the device {str(device)!r}, which has no float64, expected one that has: certificates rest "
            'on it; move queries and keys, or weights, with .cpu(), or capture with tr.capture(model, device="cpu")'
        )
    if asked == "host":
        raise ChainError(
            f"path = 'host' for tensors on {str(device)!r}, expected 'device' there: the host's path would build N × N "
            "on it; move the tensors with .cpu()"
        )
    return "device"


def logits_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What logits of chunks of rows are taken in: float64 where PyTorch may take float32 products by TF32."""
    if device.type == "cuda" and dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return torch.float64
    return dtype


@cache
def _has_double(kind: str) -> bool:
    if kind == "mps":
        return False
    try:
        torch.empty(1, dtype=torch.float64, device=kind)
    except (RuntimeError, TypeError, NotImplementedError, AssertionError):
        # CUDA whose driver is at fault is no device without float64; its own message says more
        return kind == "cuda"
    return True
