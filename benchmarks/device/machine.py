"""Rates of the device, and what single operations on it cost."""

from __future__ import annotations

import time

import torch

from tokenrank.benchmark.rates import copy_rate, exponential_rate, launch_seconds, matrix_rate

from .floors import Floors
from .record import Record

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def machine(record: Record, small: bool) -> Floors:
    """Copy, matrix products, exponentials, a launch; eigenvalues on the device beside the host's."""
    clock, n, side = record.clock, 2**22 if small else 2**28, 256 if small else 8192
    copy = copy_rate(clock, n)
    record.put("copy", rate=copy, unit="B/s")
    matrix = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        matrix[name] = matrix_rate(clock, side, dtype)
        record.put(f"matrix product, {name}", rate=matrix[name], unit="FLOP/s")
    for dtype in (torch.float32, torch.float64):
        rate = exponential_rate(clock, n // 16, dtype)
        record.put(f"exponential, {str(dtype).removeprefix('torch.')}", rate=rate, unit="1/s")
    record.put("small operation", seconds=launch_seconds(clock))
    for m in (16, 48, 128):
        a = torch.randn(12, m, m, device=record.device)
        host = a.cpu()
        begin = time.perf_counter()
        torch.linalg.eigvals(host)
        there = time.perf_counter() - begin
        record.attempt(
            f"eigenvalues of 12 matrices of {m}",
            lambda a=a, there=there: {
                "seconds": clock.timed(lambda: torch.linalg.eigvals(a), 3).seconds, "host_s": there,
            },
        )  # fmt: skip
    return Floors(copy, matrix)
