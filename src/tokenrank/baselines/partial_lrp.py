"""Partial LRP: relevance of the last layer's attention weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import TokenMap
from ..models import Model
from ..observation import Observation
from .class_row import patch_row
from .relevance_propagation import attention_relevance


def partial_lrp(
    model: Model, inputs: Mapping[str, Any], target: int | None = None, *, observation: Observation | None = None
) -> TokenMap:
    """Relevance that reaches the attention of CLS in the last layer: mean_h (R_h[CLS, p])⁺.

    Voita et al., "Analyzing Multi-Head Self-Attention" (ACL 2019), stop the propagation there; the rules and the
    reduction are those that Chefer et al. (CVPR 2021) compare with; see ``attention_relevance``. Values ≥ 0, not
    normalised. A model without CLS: mean of the patches' rows, after the positive part.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.

    Raises:
        InputError: the model has no classifier or no such class.
        CaptureError: relevance cannot be carried; see ``attention_relevance``.
    """
    seen = Observation.of(model, inputs, observation)
    last = attention_relevance(model, inputs, target, observation=seen)[-1]
    return seen.map(patch_row(seen, last.relevance.clamp(min=0)).mean(0))
