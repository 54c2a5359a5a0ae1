"""What masks of records let through."""

from __future__ import annotations

import torch
from torch import Tensor

_HIDDEN = 0.5  # of the most negative number of a type: logits below are masked


def allowed(mask: Tensor) -> Tensor:
    """Where a query may attend: bool, from a bool mask or one that is added to the logits."""
    return mask if mask.dtype == torch.bool else mask > _HIDDEN * torch.finfo(mask.dtype).min
