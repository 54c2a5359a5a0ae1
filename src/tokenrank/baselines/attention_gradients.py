"""Gradients of a class's logit with respect to the attention weights of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from ..models import Model
from ..observation import Observation
from .class_target import chosen_class
from .retaining import run_retaining


@dataclass(frozen=True, eq=False)
class LayerGradient:
    """One layer.

    Attributes:
        name: of the module that computed the attention.
        weights: A, (heads, N, N); rows sum to one.
        gradient: ∂(logit of the class) / ∂A, (heads, N, N): every entry of A moved on its own.
    """

    name: str
    weights: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class AttentionGradients:
    """All layers of one picture, for one class.

    Attributes:
        target: index of the class.
        logits: (classes,).
        layers: in the order of ``Observation.layers``.
    """

    target: int
    logits: Tensor
    layers: tuple[LayerGradient, ...]


def attention_gradients(
    model: Model, inputs: Mapping[str, Any], target: int | None = None, *, observation: Observation | None = None
) -> AttentionGradients:
    """Attention weights and the gradients of a class's logit with respect to them.

    The forward runs once more, with gradients, and fused attention written out; the model is not touched and its
    parameters get no ``.grad``. Memory: two numbers per entry of every layer's attention. The answer is kept in
    the observation.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.

    Raises:
        InputError: the model has no classifier or no such class.
        CaptureError: the weights of a layer cannot be seen, or the class does not depend on them.
    """
    seen = Observation.of(model, inputs, observation)
    index = chosen_class(seen, target)
    return seen.keep(("gradients", index), lambda: _gradients(seen, index))


def _gradients(observation: Observation, target: int) -> AttentionGradients:
    logits, weights = run_retaining(observation)
    gradients = backward(observation, logits, target, weights)
    layers = tuple(
        LayerGradient(name, w.detach().reshape(-1, *w.shape[-2:]), g)
        for name, w, g in zip(observation.layers, weights, gradients, strict=True)
    )
    return AttentionGradients(target, logits.detach(), layers)


def backward(observation: Observation, logits: Tensor, target: int, weights: list[Tensor]) -> list[Tensor]:
    """What arrives at each layer's ``weights`` from 1 at the logit of the class, (heads, N, N) each.

    Raises:
        CaptureError: nothing arrives, because the graph is cut.
    """
    if not logits.requires_grad:
        raise CaptureError(f"model {observation.model.name!r} runs without gradients, expected a graph to its logits")
    with torch.enable_grad():  # the caller may have turned gradients off
        score = logits[target]
    arrived = torch.autograd.grad(score, weights, allow_unused=True)
    for name, found in zip(observation.layers, arrived, strict=True):
        if found is None:
            raise CaptureError(
                f"class {target} does not depend on the attention of layer {name!r}; a no_grad block or detach() in "
                "the model would do that"
            )
    return [found.detach().reshape(-1, *found.shape[-2:]) for found in arrived if found is not None]


def square_layers(gradients: AttentionGradients) -> tuple[LayerGradient, ...]:
    """The layers, for methods that multiply them.

    Raises:
        CaptureError: layers have different numbers of tokens.
    """
    sizes = {layer.weights.shape[-1] for layer in gradients.layers}
    if len(sizes) != 1:
        raise CaptureError(
            f"layers have {sorted(sizes)} tokens, expected the same number in all, as relevance is carried from layer "
            "to layer; take a model without pooling of tokens"
        )
    return gradients.layers
