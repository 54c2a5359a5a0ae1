"""What a section is told: where, how much, and until when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch

from .clock import Clock
from .rows import Row


@dataclass(frozen=True)
class Task:
    """How a section is to measure.

    Attributes:
        clock: of the device, with the moment at which the section's share of the time is over.
        quick: the small sizes alone, in fewer rounds.
    """

    clock: Clock
    quick: bool = False

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.clock.device

    @property
    def cuda(self) -> bool:
        """Whether that is a GPU, which takes larger sizes and half precision."""
        return self.device.type == "cuda"

    @property
    def rounds(self) -> int:
        """Calls of which the median is taken, time allowing."""
        return 3 if self.quick else 5


Section: TypeAlias = Callable[[Task], Iterator[Row]]
"""Yields rows as they are measured: the first whatever the time, and no other much after its clock's end."""
