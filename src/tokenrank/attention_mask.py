"""Attention masks: the one rule of what is masked."""

from __future__ import annotations

import torch
from torch import Tensor


def allowed(mask: Tensor) -> Tensor:
    """Where a query may attend: bool, from a bool mask (True may attend) or one that is added to the logits.

    Added numbers count as masked at half of the least number of their type or below: models add that number, or −∞,
    and a bias may come on top of it. Larger ones hide only where the logits are small; see ``recording.masks``.
    """
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
