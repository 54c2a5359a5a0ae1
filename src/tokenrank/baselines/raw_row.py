"""The row of one token: what most attention pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..chain import AttentionChain, TokenMap
from ..chain.starts import Start
from ..errors import InputError
from ..models import Model
from ..observation import Heads, Layer, Observation


def raw_row(
    model: Model,
    inputs: Mapping[str, Any],
    target: Start | None = None,
    *,
    observation: Observation | None = None,
    layer: Layer = None,
    heads: Heads = "uniform",
) -> TokenMap:
    """Attention of one patch to all patches: a row of the layer's attention, values ≥ 0, sum 1.

    Row selection, the comparison of "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025): the first bounce from
    a single token. CLS and registers are dropped and rows renormalised, as for multi-bounce attention, so that the
    two differ in the number of bounces alone.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: the start: ``tr.at(x, y)``, the number of a patch (row by row), or several, a bool mask (P,) or a
            distribution (P,), whose rows are averaged. Required.
        observation: of the same picture, where there is one.
        layer: number, negative from the last, or name; two thirds up where None.
        heads: "uniform", "lambda2" (each by its |λ2|), or the number of one head.

    Raises:
        InputError: no target.
        ChainError: a patch out of range, an empty mask, no distribution, or no such head.
        NotFoundError: no such layer.
    """
    if target is None:
        raise InputError("raw_row starts from a place and target is None; give target=tr.at(x, y) or a patch's number")
    seen = Observation.of(model, inputs, observation)
    return seen.map(attention_row(seen.chain(layer, heads), target))


def attention_row(chain: AttentionChain, start: Start) -> Tensor:
    """vᵀA for a start v: (*batch, N, N) → (*batch, N); a single token's row as it is."""
    return chain.bounce(start, n=1).values
