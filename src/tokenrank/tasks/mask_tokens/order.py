"""Which tokens go first, and how many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...chain import TokenMap
from ...errors import InputError

Order = Tensor | np.ndarray | Sequence[int]


def removal_order(scores: TokenMap | Tensor | np.ndarray, least_first: bool = False) -> Tensor:
    """Patches from the most to the least important; ties keep the order of the picture.

    Args:
        scores: one number a patch, (P,) or (B, P), larger is more important; or a ``TokenMap``, of which the
            picture's part is taken.
        least_first: the other way round.

    Returns:
        int64 indices of patches, in the shape of the scores.

    Raises:
        InputError: a score that is not finite.
    """
    if isinstance(scores, TokenMap):
        values = scores.grid().flatten(scores.values.ndim - 1) if scores.layout is not None else scores.values
    else:
        values = torch.as_tensor(scores)
    if not values.ndim or not bool(torch.isfinite(values).all()):
        raise InputError(f"scores of shape {tuple(values.shape)} are not all finite numbers, expected one a patch")
    return values.argsort(dim=-1, descending=not least_first, stable=True)


def removed_count(ratio: float, patches: int) -> int:
    """⌊ratio · patches⌋, with 0.29 · 100 = 29 though floating point says 28.999….

    Raises:
        InputError: a ratio beyond 0 … 1.
    """
    if isinstance(ratio, bool) or not 0 <= ratio <= 1:
        raise InputError(f"ratio = {ratio!r}, expected a share of the patches from 0 to 1")
    return math.floor(ratio * patches + 1e-9)


def checked_order(order: Order, batch: int, patches: int, most: int) -> Tensor:
    """The order as int64 (batch, k ≥ most).

    Raises:
        InputError: another shape, an index out of range or twice, or too few of them.
    """
    try:
        given = torch.as_tensor(order)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"order is a {type(order).__name__}, expected indices of patches, (k,) or (B, k)") from None
    if given.is_floating_point() or given.dtype == torch.bool or given.ndim not in (1, 2):
        raise InputError(
            f"order has shape {tuple(given.shape)} and type {given.dtype}, expected whole numbers (k,) or (B, k): "
            "indices of patches, the first to go first; removal_order(scores) makes them"
        )
    given = given.long().cpu()
    if given.ndim == 2 and given.shape[0] not in (1, batch):
        raise InputError(f"order has {given.shape[0]} rows for a batch of {batch} pictures, expected one a picture")
    given = given.expand(batch, -1)
    if given.numel() and (int(given.min()) < 0 or int(given.max()) >= patches):
        raise InputError(
            f"order has indices from {int(given.min())} to {int(given.max())}, expected patches 0 to {patches - 1}"
        )
    if given.shape[-1] < most:
        raise InputError(f"order has {given.shape[-1]} patches, but the largest ratio removes {most} of {patches}")
    rising = given.sort(-1).values
    if bool((rising[:, 1:] == rising[:, :-1]).any()):
        raise InputError("order names a patch twice, expected each once")
    return given
