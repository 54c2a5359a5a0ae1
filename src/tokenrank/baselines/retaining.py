"""A differentiable forward whose attention weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from ..models import Model
from ..observation import Observation
from ..recording import KeepWeights, KeptAttention, acting
from .class_target import class_logits


def differentiable(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same inputs, with pictures (float, four dimensions or more) that ask for gradients."""
    return {
        name: value.detach().clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 4
        else value
        for name, value in inputs.items()
    }


def run_retaining(
    observation: Observation, rules: AbstractContextManager[Any] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Logits (classes,) of a forward and the weights of ``observation.layers`` as the model shaped them, one graph.

    Args:
        observation: what to run once more.
        rules: what to run it inside of, such as other gradients of PyTorch's functions.

    Raises:
        CaptureError: the model answers otherwise with its attention written out than without; weights of a layer
            were not seen, were seen twice, or have other shapes.
    """
    model: Model = observation.model
    expected, act = class_logits(observation), KeepWeights()
    with torch.inference_mode(False), torch.enable_grad():
        inputs = differentiable(observation.inputs)
        with rules or nullcontext(), acting(model.module, act):
            logits = model.logits(inputs)[0]
    error = (logits.detach() - expected).abs().max().item()
    allowed = torch.finfo(logits.dtype).eps ** 0.5 * (1 + expected.abs().max().item())
    if not error <= allowed:
        raise CaptureError(
            f"model {model.name!r} answers otherwise when its attention is written out: logits differ by {error:.3g}, "
            f"expected {allowed:.1g} at most; is it in eval mode and free of in-place tricks?"
        )
    return logits, [_of_layer(observation, layer, act.kept) for layer in observation.layers]


def _of_layer(observation: Observation, layer: str, kept: list[KeptAttention]) -> Tensor:
    shape = observation.full(layer).shape
    weights = [attention.weights for attention in kept if attention.name == layer]
    if len(weights) != 1:
        seen = ", ".join(repr(attention.name) for attention in kept[:4]) or "none"
        raise CaptureError(
            f"the attention weights of layer {layer!r} were seen {len(weights)} times in a differentiable forward, "
            f"expected once (seen: {seen}); load the model with attention='eager' or 'sdpa'"
        )
    if weights[0].shape[-2:] != shape[-2:] or weights[0].numel() != shape.numel():
        raise CaptureError(
            f"the attention weights of layer {layer!r} have shape {tuple(weights[0].shape)}, expected "
            f"(1, {', '.join(map(str, shape))})"
        )
    return weights[0]
