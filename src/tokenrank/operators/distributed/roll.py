"""Who of the ranks still answers: asked of all of them where a message did not come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

WAITS = "waits"  # what a rank says of itself that has not stopped
STATUS_BYTES = 400

_left: list[Any] = []  # last words to ranks that may read them later, when the ring that wrote them has gone


class Roll:
    """Words from each rank to each other one, over connections of their own.

    Args:
        group: a process group of gloo, used for nothing else.
        ranks: the numbers of its ranks among all processes.
        rank: the place of this one.
    """

    def __init__(self, group: dist.ProcessGroup, ranks: Sequence[int], rank: int) -> None:
        self.group, self.ranks, self.rank = group, ranks, rank

    def tell(self, status: str) -> list[int]:
        """Tell every other rank how this one is; returns those that can be told: who has gone cannot."""
        data = status.encode()[:STATUS_BYTES]
        message = torch.zeros(STATUS_BYTES, dtype=torch.uint8)
        message[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return [rank for rank in self._others() if self._sent(rank, message)]

    def called(self, seconds: float) -> dict[int, str | None]:
        """What each other rank says of itself within so many seconds; None for one that says nothing."""
        until = time.monotonic() + seconds
        takes: dict[int, tuple[Any, Tensor]] = {}
        for rank in self.tell(WAITS):
            buffer = torch.zeros(STATUS_BYTES, dtype=torch.uint8)
            takes[rank] = dist.irecv(buffer, self.ranks[rank], self.group), buffer
        answers: dict[int, str | None] = dict.fromkeys(self._others())
        for rank, (work, buffer) in takes.items():
            try:
                work.wait(timedelta(seconds=max(0.05, until - time.monotonic())))
            except RuntimeError:
                continue
            answers[rank] = bytes(buffer.tolist()).rstrip(b"\0").decode(errors="replace")
        return answers

    def _others(self) -> list[int]:
        return [rank for rank in range(len(self.ranks)) if rank != self.rank]

    def _sent(self, rank: int, message: Tensor) -> bool:
        try:
            _left.append((dist.isend(message, self.ranks[rank], self.group), message))
        except RuntimeError:
            return False
        return True
