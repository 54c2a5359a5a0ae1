"""Attention masks: the one rule of what is masked."""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -1e3
"""A logit *overwritten* with this or less is masked: models fill in −1e4, −1e9, or the least number of a type.

A number of that size *added* to logits may still be a bias, so that ``allowed`` waits for far smaller ones.
"""


def allowed(mask: Tensor) -> Tensor:
    """Where a query may attend: bool, from a bool mask (True may attend) or one that is added to the logits.

    Added numbers count as masked at half of the least number of their type or below: models add that number, or −∞,
    and a bias may come on top of it.
    """
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
