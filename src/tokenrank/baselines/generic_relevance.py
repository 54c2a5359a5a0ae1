"""Generic attention explainability: gradient-weighed attention, carried through the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..models import Model
from ..observation import Observation
from .attention_gradients import attention_gradients, square_layers
from .class_row import patch_row


def generic_relevance(
    model: Model, inputs: Mapping[str, Any], target: int | None = None, *, observation: Observation | None = None
) -> TokenMap:
    """Relevance of the patches for a class: R ← I; per layer R ← R + mean_h(∇A ⊙ A)⁺ R; the row of CLS.

    Chefer, Gur and Wolf, "Generic Attention-model Explainability" (ICCV 2021), equations 5 and 6, self-attention
    alone. Values ≥ 0, not normalised. A model without CLS: mean of the patches' rows.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.

    Raises:
        InputError: the model has no classifier or no such class.
        CaptureError: the gradients cannot be had (see ``attention_gradients``), or layers differ in their tokens.
    """
    seen = Observation.of(model, inputs, observation)
    layers = square_layers(attention_gradients(model, inputs, target, observation=seen))
    return seen.map(patch_row(seen, carried((layer.weights, layer.gradient) for layer in layers)))


def carried(layers: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """R (N, N) from (A, ∇A), each (heads, N, N), from the first layer to the last."""
    relevance: Tensor | None = None
    for weights, gradient in layers:
        step = (gradient * weights).clamp(min=0).mean(0)
        if relevance is None:
            relevance = torch.eye(step.shape[-1], dtype=step.dtype, device=step.device)
        relevance = relevance + step @ relevance
    assert relevance is not None
    return relevance
