"""Heads that are measured, and a chain of them on the path that is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.benchmark.heads import synthetic_heads
from tokenrank.operators.device.path import Path

ALPHA = 0.99


@dataclass(frozen=True)
class Size:
    """Heads, tokens and width of one measurement.

    Attributes:
        dense: whether A, G and their float64 fit, so that the paper's loop and an exact answer can be had.
        host: whether the path of the host is measured beside, on the processor.
        tolerances: of TokenRank.
    """

    heads: int
    tokens: int
    width: int
    dense: bool = True
    host: bool = False
    tolerances: tuple[float, ...] = (1e-4, 1e-6)

    @property
    def words(self) -> str:
        """12 × 1,024 × 64."""
        return f"{self.heads} × {self.tokens:,} × {self.width}"

    @property
    def scale(self) -> float:
        """Factor of the logits."""
        return self.width**-0.5

    @property
    def few(self) -> slice:
        """Three heads, one of each kind, that are compared with float64."""
        third = self.heads // 3
        return slice(0, self.heads, third + 1) if third > 1 else slice(0, self.heads)


SIZES = (
    Size(12, 1024, 64, host=True),
    Size(24, 4608, 128),
    Size(24, 16384, 128, tolerances=(1e-4,)),
    Size(24, 65536, 128, dense=False, tolerances=(1e-4,)),
)
SMALL = (
    Size(3, 192, 16, host=True),
    Size(3, 320, 16, tolerances=(1e-4,)),
    Size(3, 640, 16, dense=False, tolerances=(1e-4,)),
)


def drawn(size: Size, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor]:
    """Queries and keys (heads, N, d), as a model in half precision hands them over."""
    q, k = synthetic_heads(size.tokens, size.heads, size.width)
    return q.to(device, dtype), k.to(device, dtype)


def chain_of(q: Tensor, k: Tensor, path: Path = "device") -> tr.AttentionChain:
    """A chain whose answers are found on the path of a device; on that of the host with tensors that are there."""
    if path == "host":
        q, k = q.cpu(), k.cpu()
    return tr.AttentionChain.from_qk(q, k, path=path)


def uneven(size: Size, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A distribution (heads, N) that is not uniform, so that errors show."""
    x = torch.rand(size.heads, size.tokens, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (x / x.sum(-1, keepdim=True)).to(device, dtype)


def exact_step(q: Tensor, k: Tensor, scale: float, x: Tensor, room: int = 2**30) -> Tensor:
    """Aᵀx in float64 by chunks of rows, nothing of the library in it. q, k (h, N, d), x (h, N) → (h, N)."""
    heads, tokens, _ = q.shape
    keys, out = k.double().mT, torch.zeros(heads, tokens, dtype=torch.float64, device=q.device)
    step = max(1, min(tokens, room // (8 * heads * tokens)))
    for first in range(0, tokens, step):
        rows = slice(first, first + step)
        weights = torch.softmax(scale * (q[:, rows].double() @ keys), -1)
        out += (x[:, None, rows].double() @ weights)[:, 0]
    return out
