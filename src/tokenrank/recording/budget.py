"""Budget of memory for copies: an error before the machine runs out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..errors import CaptureError, InputError
from ..memory import free_bytes
from ..untrusted.budget import readable as readable

_SEEN = 32 * 2**20  # bytes between two looks at the free memory
_SPARE = 0.05  # of the free memory stays free: the model needs some, too


@dataclass
class Budget:
    """Watches what is kept.

    Args:
        limit: most bytes to keep; what the machine has where None.

    Raises:
        InputError: a limit that is no positive whole number.
    """

    limit: int | None = None
    kept: int = 0
    _unseen: dict[torch.device, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is not None and (isinstance(self.limit, bool) or not int(self.limit) == self.limit > 0):
            raise InputError(
                f"max_bytes = {self.limit!r}, expected a positive whole number of bytes, such as 4 * 2**30"
            )

    def take(self, nbytes: int, device: torch.device, name: str) -> None:
        """Count ``nbytes`` that are about to be kept on ``device``.

        Raises:
            CaptureError: they do not fit; nothing was counted.
        """
        if device.type == "meta":
            return
        if self.limit is not None and self.kept + nbytes > self.limit:
            raise CaptureError(_message(name, nbytes, self.kept, f"max_bytes allows {readable(self.limit)}"))
        unseen = self._unseen.get(device, 0) + nbytes
        if unseen >= _SEEN:
            free = free_bytes(device)
            if free is not None and nbytes > free * (1 - _SPARE):
                raise CaptureError(_message(name, nbytes, self.kept, f"{device} has {readable(free)} free"))
            unseen = 0
        self._unseen[device] = unseen
        self.kept += nbytes


def _message(name: str, nbytes: int, kept: int, limit: str) -> str:
    return (
        f"recording stopped at {name!r}, whose record takes {readable(nbytes)}: {limit}, and {readable(kept)} are kept "
        "already. The model ran on, and what was recorded before is kept. Keep less: layers=, heads=, steps=, "
        "dtype=torch.float16, another device=, or reduce=; a first run with device='meta' keeps nothing and "
        "trace.estimate() then says what a run takes"
    )
