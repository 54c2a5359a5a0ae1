"""What the machine can do at best: bytes and operations a second, the floor under every other figure."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .clock import Clock
from .rows import Row
from .task import Task

TYPES = {"float32": torch.float32, "float64": torch.float64}
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def copy_rate(clock: Clock, numbers: int) -> float:
    """Bytes a second of copying float32, read and written."""
    source = torch.empty(numbers, device=clock.device).normal_()
    target = torch.empty_like(source)
    return 8 * numbers / clock.timed(lambda: target.copy_(source)).seconds


def matrix_rate(clock: Clock, side: int, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product; never in TF32."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        a = torch.randn(side, side, device=clock.device).to(dtype)
        return 2 * side**3 / clock.timed(lambda: a @ a).seconds
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def exponential_rate(clock: Clock, numbers: int, dtype: torch.dtype) -> float:
    """Exponentials a second, in place."""
    x = torch.zeros(numbers, device=clock.device, dtype=dtype).uniform_(-8, 0)
    y = torch.empty_like(x)
    return numbers / clock.timed(lambda: torch.exp(x, out=y)).seconds


def launch_seconds(clock: Clock, count: int = 200) -> float:
    """Of one operation on eight numbers."""
    x = torch.zeros(8, device=clock.device)

    def run() -> None:
        for _ in range(count):
            x.add_(1)

    return clock.timed(run).seconds / count


def machine(task: Task) -> Iterator[Row]:
    """The section "machine": each row has its ``rate`` and ``unit``."""
    clock, cuda = task.clock, task.cuda
    numbers, side = (2**28, 8192) if cuda else (2**24, 1024)

    def row(name: str, rate: float, unit: str) -> Row:
        return Row("machine", name, "torch", 1 / rate, more={"rate": rate, "unit": unit})

    yield row("copy", copy_rate(clock, numbers), "B/s")
    for name, dtype in (TYPES | HALF if cuda else TYPES).items():
        yield row(f"matrix product, {name}", matrix_rate(clock, side, dtype), "FLOP/s")
    for name, dtype in TYPES.items():
        yield row(f"exponential, {name}", exponential_rate(clock, numbers // 16, dtype), "1/s")
    yield row("small operation", 1 / launch_seconds(clock), "1/s")
