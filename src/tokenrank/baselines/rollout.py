"""Attention rollout: the walk through all layers, half of it along the residual connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..chain import AttentionChain, TokenMap, compose
from ..chain.composition import RESIDUAL
from ..chain.starts import Start
from ..errors import InputError
from ..models import Model
from ..observation import Observation
from .reading import reading_distribution


def rollout(
    model: Model,
    inputs: Mapping[str, Any],
    target: Start | None = None,
    *,
    observation: Observation | None = None,
    start_layer: int = 0,
    residual: float = RESIDUAL,
) -> TokenMap:
    """Attention rollout: the row of CLS over the patches in Ã_L ⋯ Ã_1, Ã_l = rownorm(mean_h A_l + I).

    Abnar and Zuidema, "Quantifying attention flow in transformers" (ACL 2020), section 3, over all tokens, CLS and
    registers included. Values ≥ 0; they sum to 1 less what ends at CLS and registers. ``target`` is no class.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: None for CLS; without a CLS token all patches evenly, the mean of the columns among the patches. Or a
            start as in ``raw_row``: the row of a patch. No class: an int is the number of a patch.
        observation: of the same picture, where there is one.
        start_layer: the first layer that takes part; 1 in the comparison of Chefer et al. (CVPR 2021) [V].
        residual: share of the residual connection, 0 … 1; ½ in the paper.

    Raises:
        InputError: no such start layer.
        ChainError: layers that differ in their tokens, a share beyond 0 … 1, or a patch that does not exist.
    """
    seen = Observation.of(model, inputs, observation)
    joint = rolled_out([seen.full(name) for name in seen.layers], start_layer, residual)
    values = joint.bounce(reading_distribution(seen, target), n=1).values
    return seen.map(values[seen.patches.start : seen.patches.stop])


def rolled_out(layers: Sequence[AttentionChain], start_layer: int = 0, residual: float = RESIDUAL) -> AttentionChain:
    """One chain (N, N) from the layers' chains (heads, N, N), first layer first; lazily, heads averaged.

    Raises:
        InputError: no such start layer. ChainError: chains of different shapes, or a share beyond 0 … 1.
    """
    if isinstance(start_layer, bool) or not 0 <= start_layer < len(layers):
        raise InputError(f"start_layer = {start_layer!r}, expected a layer from 0 to {len(layers) - 1}")
    return compose([layer.aggregate("uniform") for layer in layers[start_layer:]], residual)
