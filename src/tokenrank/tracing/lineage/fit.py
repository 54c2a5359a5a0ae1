"""Whether q, k, scale and mask explain the weights that the model computed."""

from __future__ import annotations

import torch
from torch import Tensor

from ..quiet import exact
from .logits import Resolved


def fits(found: Resolved, weights: Tensor, dtype: torch.dtype) -> bool:
    """Compare two rows of every head, one in the middle and the last, by total variation.

    The tolerance follows ``dtype``, in which the model rounded its logits. Rows in which nothing
    may be attended to are passed over: models fill them in different ways.
    """
    queries, keys = found.q.shape[-2], found.k.shape[-2]
    if weights.shape[-2:] != (queries, keys):
        return False
    middle = queries // 2
    rows = slice(middle, queries, max(1, queries - 1 - middle))
    with exact(weights.device):
        wide = torch.promote_types(found.q.dtype, torch.float32)
        logits = found.scale * (found.q[..., rows, :].to(wide) @ found.k.to(wide).mT)
        rounding = 2 * torch.finfo(dtype).eps * logits.abs().amax() + torch.finfo(weights.dtype).eps
        mask = found.mask
        if mask is not None:
            mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        distance = (logits.softmax(-1) - weights[..., rows, :]).abs().sum(-1) / 2
        return bool(distance.nan_to_num(0.0).amax() <= 1e-4 + rounding)
