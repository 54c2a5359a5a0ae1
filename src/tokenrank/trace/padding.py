"""Padding in weights: rows of queries that may attend to nothing, where no mask is known that says so."""

from __future__ import annotations

import torch
from torch import Tensor


def padding_rows(weights: Tensor) -> Tensor:
    """Tokens (N,) that may attend to nothing and are attended to by nobody else, of weights (H, N, N) of one sample.

    What a masked softmax makes of a row that is masked throughout: NaN or zero, or in every head the same weight on all
    m keys that there were, also on keys that come later. m is N, or less where decoding went on. A uniform row by
    itself is a query without preferences: it is padding only where no other row has any weight on its token. Where all
    rows are like that, or others attend to one of them, nothing tells padding from the rest, and none is said.
    """
    n = weights.shape[-1]
    none = torch.zeros(n, dtype=torch.bool, device=weights.device)
    if not bool(_uniform(weights[0]).any()):  # one head says mostly that there is none
        return none
    seen = weights != 0
    gap = (seen[..., 1:] & ~seen[..., :-1]).any(-1)  # a key without weight before one that has some
    whole = _uniform(weights) & ~gap
    width = torch.where(whole & ~weights.sum(-1).isnan(), seen.sum(-1), 0)
    later = (whole & (width > torch.arange(1, n + 1, device=weights.device))).all(0)
    m = torch.where(later, width[0], 0).amax()
    empty = (whole & ((width == m) | (width == 0))).all(0)
    if not bool(empty.any()) or bool(empty.all()) or bool((seen[:, ~empty].any(0).any(0) & empty).any()):
        return none
    return empty


def _uniform(weights: Tensor) -> Tensor:
    """Rows (…, N) that are no preference of a query: NaN, zero, or uniform over the keys that have weight."""
    low, high = weights.aminmax(dim=-1)
    count = (weights != 0).sum(-1)
    close = 4 * torch.finfo(weights.dtype).eps
    even = ((count * high - weights.sum(-1)).abs() <= close * count * high) & (count > 1)
    return low.isnan() | (high == 0) | even
