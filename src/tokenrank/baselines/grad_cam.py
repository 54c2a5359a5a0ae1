"""Grad-CAM on the attention of the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..chain import TokenMap
from ..models import Model
from ..observation import Observation
from .attention_gradients import attention_gradients
from .class_row import patch_row


def grad_cam(
    model: Model, inputs: Mapping[str, Any], target: int | None = None, *, observation: Observation | None = None
) -> TokenMap:
    """Attention of CLS in the last layer, each head weighed by the class's mean gradient over the patches.

    w_h = mean_p ∂y_c / ∂A_h[CLS, p]; values relu(mean_h w_h · A_h[CLS, p]) ≥ 0, not normalised. It is Selvaraju et
    al., "Grad-CAM" (ICCV 2017), equations 1 and 2, with heads as channels, as Chefer et al. (CVPR 2021) compare with.
    A model without CLS: the mean of the patches' rows stands for the row of CLS, in A and in its gradient.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.

    Raises:
        InputError: the model has no classifier or no such class.
        CaptureError: the gradients cannot be had; see ``attention_gradients``.
    """
    seen = Observation.of(model, inputs, observation)
    last = attention_gradients(model, inputs, target, observation=seen).layers[-1]
    return seen.map(weighed_heads(patch_row(seen, last.weights), patch_row(seen, last.gradient)))


def weighed_heads(rows: Tensor, gradients: Tensor) -> Tensor:
    """relu(mean_h w_h · rows_h), w_h = mean over patches of the gradients: (heads, P) twice → (P,)."""
    return (gradients.mean(-1, keepdim=True) * rows).mean(0).relu()
