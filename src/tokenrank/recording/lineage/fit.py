"""Whether q, k, scale and mask explain the weights that the model computed."""

from __future__ import annotations

import torch
from torch import Tensor

from ..quiet import exact
from .logits import Resolved

_SINGLE = 5e-4  # total variation that rounding in single precision stays well below


def fits(found: Resolved, weights: Tensor, dtype: torch.dtype) -> bool:
    """Compare two rows of every head, one in the middle and the last, by total variation.

    The tolerance follows ``dtype``, in which the model rounded its logits. Rows in which nothing
    may be attended to are passed over: models fill them in different ways. With sinks, ``weights``
    are those before their column is dropped. Tensors on "meta" fit when their shapes do.
    """
    queries, keys = found.q.shape[-2], found.k.shape[-2]
    if weights.shape[-2:] != (queries, keys + (found.sinks is not None)):
        return False
    if weights.is_meta:
        return True
    middle = queries // 2
    rows = slice(middle, queries, max(1, queries - 1 - middle))
    with exact(weights.device):
        wide = torch.promote_types(found.q.dtype, torch.float32)
        logits = torch.matmul(found.q[..., rows, :].to(wide), found.k.to(wide).mT) * found.scale
        tolerance = _SINGLE
        if dtype.itemsize < 4:
            tolerance += 2 * torch.finfo(dtype).eps * float(logits.abs().amax())
        if weights.dtype.itemsize < 4:
            tolerance += torch.finfo(weights.dtype).eps
        mask = found.mask
        if mask is not None:
            mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        if found.sinks is not None:
            sinks = found.sinks.to(wide)[:, None, None].expand(*logits.shape[:-1], 1)
            logits = torch.cat([logits, sinks], -1)
        difference = logits.softmax(-1).sub_(weights[..., rows, :])
        if mask is not None:
            difference.nan_to_num_(0.0)
        distance = float(torch.linalg.vector_norm(difference, 1, -1).amax()) / 2
        return distance <= tolerance
