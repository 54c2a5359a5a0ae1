"""One application of A and of Aᵀ, every way there is, with its error against float64 and the floor under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenrank.operators.device.path import Path

from .floors import Floors
from .record import Record, floored, measured
from .sizes import Size, chain_of, drawn, exact_step, uneven

LIMITS = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""ℓ1 error of Aᵀx that is right for x of a dtype; float64 takes what the order of sums allows."""
STORE_LIMIT = 2e-3
"""Of a store in half precision."""


def applies(record: Record, floors: Floors, sizes: Sequence[Size]) -> None:
    """Forward attention as a yardstick; ours by x's dtype and columns; store and kernel alone; the host's path."""
    for size in sizes:
        if record.over:
            record.put(size.words, skipped="the section's share of the time is over")
            continue
        _Applies(record, floors, size).run()


class _Applies:
    """All ways of one size."""

    def __init__(self, record: Record, floors: Floors, size: Size) -> None:
        self.record, self.floors, self.size = record, floors, size
        self.q, self.k = drawn(size, record.device)
        self.x = uneven(size, record.device)
        few = size.few
        self.right = exact_step(self.q[few], self.k[few], size.scale, self.x[few])
        self.live = torch.ones(size.heads, dtype=torch.bool, device=record.device)
        self.forward = float("nan")

    def run(self) -> None:
        """Cheap and plain ones first, so that a failure late costs little."""
        size, record, half = self.size, self.record, torch.bfloat16
        whole = self.floors.attention(size.heads, size.tokens, size.width, half)
        row = record.attempt(f"forward attention, {size.words}", partial(self._forward, half, whole))
        self.forward = row["seconds"] if row is not None else float("nan")
        single = self.floors.attention(size.heads, size.tokens, size.width, torch.float32)
        if size.dense:
            record.attempt(f"forward attention in float32, {size.words}", partial(self._forward, torch.float32, single))
        self._ours()
        record.attempt(f"plain float64 by chunks of rows, {size.words}", self._plain)
        if size.dense:
            self._parts()
        if size.host:
            record.attempt(f"Aᵀx, the host's path, {size.words}", partial(self._transposed, "host", torch.float32, 1))

    def _ours(self) -> None:
        for dtype, columns in ((torch.float32, 1), (torch.bfloat16, 1), (torch.float32, 8), (torch.float64, 1)):
            # the row that the goals ask for is the plain one: float32, one column
            about = "" if (dtype, columns) == (torch.float32, 1) else f", {str(dtype).removeprefix('torch.')}"
            about += f", {columns} columns" if columns > 1 else ""
            name = f"Aᵀx{about}, {self.size.words}"
            self.record.attempt(name, partial(self._transposed, "device", dtype, columns))
        self.record.attempt(f"Ax, {self.size.words}", self._plain_product)

    def _forward(self, dtype: torch.dtype, floor: float) -> dict[str, Any]:
        q, k = self.q[None].to(dtype), self.k[None].to(dtype)
        run = partial(F.scaled_dot_product_attention, q, k, k, scale=self.size.scale)
        return floored(measured(self.record.clock.timed(run)), floor, "two products of all logits")

    def _transposed(self, path: Path, dtype: torch.dtype, columns: int) -> dict[str, Any]:
        operator = chain_of(self.q, self.k, path).operator
        x = self.x[..., None].expand(-1, -1, columns).to(operator.device, dtype).contiguous()
        return self._checked(lambda: operator.rmatmul(x), lambda y: y[..., 0], LIMITS[dtype], dtype)

    def _plain_product(self) -> dict[str, Any]:
        operator, x = chain_of(self.q, self.k).operator, self.x[..., None]
        found = measured(self.record.clock.timed(lambda: operator.matmul(x)))
        floor = self._floor(torch.bfloat16)
        return {**floored(found, floor, "the cheaper of logits and a stored A"), **self._forwards(found)}

    def _plain(self) -> dict[str, Any]:
        run = partial(exact_step, self.q, self.k, self.size.scale, self.x)
        found = measured(self.record.clock.timed(run, 3))
        return floored(
            found, self.floors.proof(self.size.heads, self.size.tokens, self.size.width), "logits in float64"
        )

    def _parts(self) -> None:
        """What the path is made of, by itself: a half store, and Triton's kernel where it can be had."""
        from tokenrank.operators.device.kernels import available
        from tokenrank.operators.device.store import HalfStore

        words, size, built = self.size.words, self.size, []

        def build() -> dict[str, Any]:
            operator = chain_of(self.q, self.k).operator
            found = measured(self.record.clock.timed(lambda: HalfStore(operator), 3))
            built.append(HalfStore(operator))
            return floored(found, self.floors.stored(size.heads, size.tokens), "writing A in half precision")

        def streamed() -> dict[str, Any]:
            x = self.x[..., None]
            run = partial(built[0].product, x, self.live, True)
            return self._checked(run, lambda y: y[..., 0], STORE_LIMIT, torch.float32, stored=True)

        if self.record.attempt(f"building the half store, {words}", build) is not None:
            self.record.attempt(f"Aᵀx from the half store, {words}", streamed)
        built.clear()
        if available(self.record.device):
            self.record.attempt(f"Aᵀx by the kernel, {words}", self._kernel)
        else:
            self.record.put(f"Aᵀx by the kernel, {words}", skipped="no Triton for this device")

    def _kernel(self) -> dict[str, Any]:
        from tokenrank.operators.device.kernels import exponential_product

        normalisers = torch.cat([
            (self.size.scale * (part.float() @ self.k.float().mT)).logsumexp(-1)
            for part in self.q.split(max(1, 2**28 // self.size.tokens // self.size.heads), 1)
        ], 1)  # fmt: skip
        zero, x = torch.zeros_like(normalisers), self.x[..., None]
        # Triton's interpreter, where there is no device, multiplies bfloat16 wrongly
        half = self.q.dtype if self.record.device.type == "cuda" else torch.float16
        q, k = self.q.to(half), self.k.to(half)
        run = partial(exponential_product, k, q, normalisers, zero, x, self.live, scale=self.size.scale)
        return self._checked(run, lambda y: y[..., 0], LIMITS[torch.float32], torch.bfloat16)

    def _checked(
        self, run: Callable[[], Tensor], column: Callable[[Tensor], Tensor], limit: float, dtype: torch.dtype,
        stored: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Seconds, floor, times of the forward, and the largest ℓ1 error of the heads that are compared."""
        answer = column(run())[self.size.few].to(self.right)
        error = float((answer - self.right).abs().sum(-1).max())
        found = measured(self.record.clock.timed(run), error=error, right=error <= limit)
        floor = self.floors.stored(self.size.heads, self.size.tokens) if stored else self._floor(dtype)
        of = "reading A in half precision" if stored else "the cheaper of logits and a stored A"
        return {**floored(found, floor, of), **self._forwards(found)}

    def _floor(self, dtype: torch.dtype) -> float:
        size = self.size
        if dtype == torch.float64:
            return self.floors.proof(size.heads, size.tokens, size.width)
        return self.floors.apply(size.heads, size.tokens, size.width, torch.bfloat16)

    def _forwards(self, found: dict[str, Any]) -> dict[str, Any]:
        return {"times_forward": found["seconds"] / self.forward}
