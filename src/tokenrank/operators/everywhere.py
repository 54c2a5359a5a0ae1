"""Where a step is possible: boolean supports that cost no memory where every step is."""

from __future__ import annotations

import torch
from torch import Tensor


def everywhere(rows: int, columns: int, device: torch.device) -> Tensor:
    """All True, (rows, columns), in the memory of one element."""
    return torch.ones(1, 1, dtype=torch.bool, device=device).expand(rows, columns)


def is_everywhere(support: Tensor) -> bool:
    """Whether a support was made by ``everywhere``: known to be True without looking at it."""
    return support.stride()[-2:] == (0, 0) and bool(support[..., 0, 0].all())
