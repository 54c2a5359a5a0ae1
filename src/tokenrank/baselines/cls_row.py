"""The attention of CLS: DINO's picture of what a vision transformer looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError, LayoutError, NotFoundError
from ..layout import TokenLayout
from ..models import Model
from ..observation import Heads, Layer, Observation


def cls_row(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = -1,
    heads: Heads = "uniform",
) -> TokenMap:
    """Attention of CLS to the patches, mean over heads: mean_h A_h[CLS, patches].

    The self-attention maps of DINO (Caron et al., ICCV 2021, figure 1), and "raw attention" in Chefer et al. (CVPR
    2021). Rows are taken as the model computed them: what CLS gives to itself and to registers is left out and not
    made up for, so that values sum to less than 1.

    Args:
        model: reads pictures and has a CLS token.
        inputs: from ``model.prepare``, a batch of one.
        target: ignored; the method has no class and no start.
        observation: of the same picture, where there is one.
        layer: number, negative from the last, or name; the last by default.
        heads: "uniform", "lambda2" (each by the |λ2| of its patches' chain), or the number of one head.

    Raises:
        LayoutError: the model has no CLS.
        NotFoundError: no such layer or head. InputError: heads of another kind.
    """
    seen = Observation.of(model, inputs, observation)
    return seen.map(head_weights(seen, layer, heads) @ observed_cls_rows(seen, layer))


def observed_cls_rows(observation: Observation, layer: Layer = -1) -> Tensor:
    """Attention of CLS to the patches in one layer, head by head: (heads, P).

    Raises:
        LayoutError: the model has no CLS. NotFoundError: no such layer.
    """
    full = observation.full(layer)
    assert full.layout is not None
    return cls_rows(full.to_dense(), full.layout)


def cls_rows(weights: Tensor, layout: TokenLayout) -> Tensor:
    """A[CLS, patches] of every head: (…, N, N) → (…, P).

    Raises:
        LayoutError: no span "cls", or no picture, in the layout.
    """
    patches = layout.range(layout.picture)
    if "cls" not in layout.spans:
        raise LayoutError(
            f"this method reads the attention of CLS, and the tokens are {dict(layout.spans)}; use column_sum or "
            "rollout, which need none, or a model with a CLS token"
        )
    cls = layout.range("cls")
    return weights[..., cls.start : cls.stop, patches.start : patches.stop].mean(-2)


def head_weights(observation: Observation, layer: Layer, heads: Heads) -> Tensor:
    """What every head counts for, (heads,) in float64, sum 1.

    Raises:
        NotFoundError: no such layer or head. InputError: neither "uniform", "lambda2" nor a number.
    """
    full = observation.full(layer)
    count = full.batch[-1]
    even = torch.full((count,), 1 / count, dtype=torch.float64, device=full.device)
    if heads == "uniform":
        return even
    if heads == "lambda2":
        moduli = observation.lambda2(layer).double()
        return moduli / moduli.sum() if moduli.sum() > 0 else even  # all zero: heads of rank one, none is slower
    if isinstance(heads, bool) or not isinstance(heads, int):
        raise InputError(f"heads = {heads!r}, expected 'uniform', 'lambda2' or the number of a head")
    if not -count <= heads < count:
        raise NotFoundError(f"no head {heads}: the layer has {count}, expected a number from {-count} to {count - 1}")
    return torch.eye(count, dtype=torch.float64, device=full.device)[heads]
