"""A chain kept once in half precision, for products that are asked for many times."""

from __future__ import annotations

import torch
from torch import Tensor

from ...memory import free_bytes
from ..base import BUILD_BYTES, Operator, block_bytes
from . import kernels
from .halves import SIDE, factors, half_product, split

SCALE = 4096.0  # of an entry: 1.5e-8 is a normal number, and the sum of a row below the largest
CHUNK = 16  # of the free memory one block of rows takes this part at most; two or three are there at a time


class HalfStore:
    """A of a batch of chains in float16 times 4,096: 2 bytes an entry, for inner solvers alone.

    Entries are off by 2⁻¹¹ of themselves; below 1.5e-8 by 7.3e-12. Rows are divided by the sums that they have after
    rounding, so that A stays a chain up to float32. Built from rows in float32, by chunks; rows lie at multiples of
    16 bytes, as tensor cores want them.

    Args:
        operator: chains of shape (h, N, N).

    Attributes:
        weights: 4,096 A, (h, N, N) in float16.
        factors: what rows are to be multiplied by, (h, N, 1) in float32; zero for a row of zeros.
    """

    def __init__(self, operator: Operator) -> None:
        heads, n = operator.batch.numel(), operator.num_tokens
        room = torch.empty(heads, n, -(-n // SIDE) * SIDE, dtype=torch.float16, device=operator.device)
        self.weights = room[..., :n]
        sums = torch.empty(heads, n, 1, dtype=torch.float32, device=operator.device)
        for start, stop in operator.blocks(torch.float32, _chunk_bytes(operator.device)):
            block = self.weights[:, start:stop]
            torch.mul(operator.rows(start, stop, torch.float32), SCALE, out=block)  # rounded in the same pass
            sums[:, start:stop] = block.sum(-1, keepdim=True, dtype=torch.float32)
        self._zero = sums.new_zeros(())
        self._streams = kernels.streams(operator.device)
        self.factors = torch.where(sums > 0, 1 / sums, 0.0)

    def product(self, x: Tensor, live: Tensor, transposed: bool) -> Tensor:
        """Aᵀ x or A x in float32 for x (h, N, c) float32, zeros for heads where ``live`` (h,) is False."""
        given = x * self.factors if transposed else x
        if self._streams:
            y = kernels.streamed_product(self.weights, given, live, transposed)
        else:
            y = torch.where(live.view(-1, 1, 1), self._whole(given, transposed), self._zero)
        return y if transposed else y * self.factors

    def _whole(self, x: Tensor, transposed: bool) -> Tensor:
        """The weights as they are or their transpose times x, all heads."""
        by, c = factors(x), x.shape[-1]
        parts = split(x / by)
        y = half_product(parts, self.weights).mT if transposed else half_product(self.weights, parts.mT)
        return (y[..., :c] + y[..., c : 2 * c]) * by


def _chunk_bytes(device: torch.device) -> int:
    """Of a block of rows: what stays in a cache on a CPU; elsewhere as others are, less where little is free."""
    free = None if device.type == "cpu" else free_bytes(device)
    return BUILD_BYTES if free is None else max(BUILD_BYTES, min(block_bytes(device), free // CHUNK))
