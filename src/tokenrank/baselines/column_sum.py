"""How much attention every token receives: the sums of the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..chain import TokenMap
from ..models import Model
from ..observation import Heads, Layer, Observation


def column_sum(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    layer: Layer = None,
    heads: Heads = "uniform",
) -> TokenMap:
    """Attention that a patch receives from all patches, Σ_i A_ij: values ≥ 0, mean 1.

    Divided by the number of patches it is the first bounce from the uniform start, of which TokenRank is the limit
    ("Attention (as Discrete-Time Markov) Chains", NeurIPS 2025). Values above 1, the mean, are the mask of
    Self-Attention Guidance (Hong et al., ICCV 2023), and of ``map.mask()``. CLS and registers are dropped and rows
    renormalised first.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: ignored; the method has no class and no start.
        observation: of the same picture, where there is one.
        layer: number, negative from the last, or name; two thirds up where None.
        heads: "uniform", "lambda2" (each by its |λ2|), or the number of one head.

    Raises:
        NotFoundError: no such layer. ChainError: no such head.
    """
    seen = Observation.of(model, inputs, observation)
    return seen.map(column_sums(seen.chain(layer, heads).to_dense()))


def column_sums(weights: Tensor) -> Tensor:
    """Σ_i A_ij: (…, N, N) → (…, N)."""
    return weights.sum(-2)
