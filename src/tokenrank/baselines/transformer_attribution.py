"""Transformer attribution: gradients times relevance of the attention, rolled out over the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError
from ..models import Model
from ..observation import Observation
from .attention_gradients import attention_gradients, square_layers
from .class_row import patch_row
from .relevance_propagation import attention_relevance


def transformer_attribution(
    model: Model,
    inputs: Mapping[str, Any],
    target: int | None = None,
    *,
    observation: Observation | None = None,
    start_layer: int = 1,
) -> TokenMap:
    """Relevance of the patches for a class: Āˡ = I + mean_h (∇Aˡ ⊙ Rˡ)⁺, C = Āᴸ ⋯ Āˢ, the row of CLS.

    Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR 2021), equations 13 and
    14; Rˡ is the relevance of the attention weights (``attention_relevance``). Rows are not normalised. Values ≥ 0.
    A model without CLS: mean of the patches' rows.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.
        start_layer: s, the first layer of the product, from 0. The paper's scripts leave layer 0 out.

    Raises:
        InputError: the model has no classifier, no such class or no such layer.
        CaptureError: gradients or relevance cannot be had, or layers differ in their tokens.
    """
    seen = Observation.of(model, inputs, observation)
    if not 0 <= start_layer < len(seen.layers):
        raise InputError(f"start_layer = {start_layer}, expected a layer from 0 to {len(seen.layers) - 1}")
    gradients = square_layers(attention_gradients(model, inputs, target, observation=seen))
    relevance = attention_relevance(model, inputs, target, observation=seen)
    pairs = [(g.gradient, r.relevance) for g, r in zip(gradients, relevance, strict=True)]
    return seen.map(patch_row(seen, rolled_out(pairs[start_layer:])))


def rolled_out(layers: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """C (N, N) from (∇A, R), each (heads, N, N), from the first layer to the last."""
    product: Tensor | None = None
    for gradient, relevance in layers:
        step = (gradient * relevance).clamp(min=0).mean(0)
        step = step + torch.eye(step.shape[-1], dtype=step.dtype, device=step.device)
        product = step if product is None else step @ product
    assert product is not None
    return product
