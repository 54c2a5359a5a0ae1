"""DINO's masks: the patches that hold 60 % of the attention of CLS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..errors import ChainError
from ..models import Model
from ..observation import Heads, Layer, Observation
from .cls_row import head_weights, observed_cls_rows

SHARE = 0.6


def dino_mass(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    heads: Heads = "uniform",
    share: float = SHARE,
) -> TokenMap:
    """Attention of CLS with each head cut to the patches that hold most of it, mean over heads.

    Each head's row A_h[CLS, patches] is divided by its sum; the fewest patches that hold the share keep their value,
    all others get 0 (Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021: 60 %).
    Values ≥ 0, sum from ``share`` to 1. With the number of one head the values above 0 are exactly DINO's mask of that
    head; ``dino_mass_mask`` returns it, and a vote of the heads otherwise.

    Args:
        model: reads pictures and has a CLS token.
        inputs: from ``model.prepare``, a batch of one.
        target: ignored; the method has no class and no start.
        observation: of the same picture, where there is one.
        layer: number, negative from the last, or name; the last by default.
        heads: "uniform", "lambda2" (each by the |λ2| of its patches' chain), or the number of one head.
        share: of the mass that the kept patches hold, above 0 and at most 1.

    Raises:
        LayoutError: the model has no CLS.
        NotFoundError: no such layer or head. InputError: heads of another kind.
        ChainError: a share beyond (0, 1].
    """
    seen = Observation.of(model, inputs, observation)
    return seen.map(head_weights(seen, layer, heads) @ kept_mass(observed_cls_rows(seen, layer), share))


def dino_mass_mask(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    heads: Heads = "uniform",
    share: float = SHARE,
) -> Tensor:
    """Foreground, bool (rows, columns): one head's mask, or what most heads keep. Arguments as ``dino_mass``.

    DINO picks the head that fits the ground truth best; a vote needs none: a patch is foreground where the heads that
    keep it hold more than half of the weight.
    """
    seen = Observation.of(model, inputs, observation)
    votes = head_weights(seen, layer, heads) @ (kept_mass(observed_cls_rows(seen, layer), share) > 0).double()
    return (votes > 0.5).reshape(seen.grid)


def kept_mass(rows: Tensor, share: float = SHARE) -> Tensor:
    """Rows divided by their sums, cut to the fewest entries that hold ``share`` of it: (…, P) → (…, P).

    Of equal entries at the edge those that come first are kept. A row without mass keeps nothing.

    Raises:
        ChainError: a share beyond (0, 1].
    """
    if isinstance(share, bool) or not 0 < share <= 1:
        raise ChainError(f"share = {share!r}, expected a share of the mass above 0 and at most 1")
    total = rows.sum(-1, keepdim=True)
    normal = torch.where(total > 0, rows / total, 0.0)
    order = normal.sort(dim=-1, descending=True, stable=True)
    held = order.values.cumsum(-1)
    before = torch.cat([torch.zeros_like(held[..., :1]), held[..., :-1]], -1)  # exact, unlike held minus the value
    return torch.zeros_like(normal).scatter(-1, order.indices, order.values.where(before < share, 0.0))
