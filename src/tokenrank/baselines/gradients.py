"""Gradients of a class's logit by the attention weights: Grad-CAM on attention, and generic relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..chain import TokenMap
from ..errors import CaptureError, InputError
from ..models import Model
from ..observation import Observation
from ..reading import Reading, Source, observe
from ..recording import KeepWeights, KeptAttention, acting
from ..select import whole_number
from .registry import register
from .rows import on_patches, read_distribution


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

    def __repr__(self) -> str:
        return f"LayerGradient({self.name!r}, {' × '.join(map(str, self.weights.shape))})"


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

    def __repr__(self) -> str:
        return f"AttentionGradients(class {self.target} of {len(self.logits)}, {len(self.layers)} layers)"


def attention_gradients(source: Source, *, target: int | None = None, **reading: Unpack[Reading]) -> AttentionGradients:
    """Attention weights and the gradients of a class's logit with respect to them.

    The forward runs once more, with gradients, and fused attention written out; the model is not touched and its
    parameters get no ``.grad``. Memory: two numbers per entry of every layer's attention, as an entry's gradient is
    its own. The answer is kept in the observation.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.

    Raises:
        InputError: the model has no classifier or no such class, or attention was captured before.
        CaptureError: the weights of a layer cannot be seen, or the class does not depend on them.
    """
    observation = observe(source, **reading)
    index = chosen_class(observation, target)
    return observation.keep(("gradients", index), lambda: _gradients(observation, index))


@register("grad_cam", needs=("class", "gradients"))
def grad_cam(source: Source, *, target: int | None = None, **reading: Unpack[Reading]) -> TokenMap:
    """Attention of CLS in the last layer, each head weighed by the class's mean gradient over the patches.

    w_h = mean_p ∂y_c / ∂A_h[CLS, p]; values relu(mean_h w_h · A_h[CLS, p]) ≥ 0, not normalised. It is Selvaraju et
    al., "Grad-CAM" (ICCV 2017), equations 1 and 2, with heads as channels, as Chefer et al. (CVPR 2021) compare with.
    A model without CLS: the mean of the patches' rows stands for the row of CLS, in A and in its gradient.

    >>> import tokenrank as tr
    >>> tr.baselines.grad_cam(tr.samples.path("chelsea"), size=64, target=3).grid().shape
    torch.Size([5, 8])

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.

    Raises:
        InputError: the model has no classifier or no such class, or attention was captured before.
        CaptureError: the gradients cannot be had; see ``attention_gradients``.
    """
    observation = observe(source, **reading)
    last = attention_gradients(observation, target=target).layers[-1]
    rows, gradients = read_row(observation, last.weights), read_row(observation, last.gradient)
    return observation.map(weighed_heads(rows, gradients))


@register("generic_relevance", needs=("class", "gradients"))
def generic_relevance(source: Source, *, target: int | None = None, **reading: Unpack[Reading]) -> TokenMap:
    """Relevance of the patches for a class: R ← I; per layer R ← R + mean_h(∇A ⊙ A)⁺ R; the row of CLS.

    Chefer, Gur and Wolf, "Generic Attention-model Explainability" (ICCV 2021), equations 5 and 6, self-attention
    alone. Values ≥ 0, not normalised. A model without CLS: mean of the patches' rows.

    Args:
        source, reading: see ``tr.observe``; a classifier of pictures.
        target: index of the class; the predicted one where None.

    Raises:
        InputError: the model has no classifier or no such class, or attention was captured before.
        CaptureError: the gradients cannot be had (see ``attention_gradients``), or layers differ in their tokens.
    """
    observation = observe(source, **reading)
    layers = square_layers(attention_gradients(observation, target=target))
    row = carried([(layer.weights, layer.gradient) for layer in layers], read_distribution(observation))
    return observation.map(on_patches(observation, row))


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
    for name, gradient in zip(observation.layers, arrived, strict=True):
        if gradient is None:
            raise CaptureError(
                f"class {target} does not depend on the attention of layer {name!r}; a no_grad block or detach() in "
                "the model would do that"
            )
    return [gradient.detach().reshape(-1, *gradient.shape[-2:]) for gradient in arrived if gradient is not None]


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


def carried(layers: Sequence[tuple[Tensor, Tensor]], rows: Tensor) -> Tensor:
    """rows · (I + S_L) ⋯ (I + S_1) with S = mean_h (X ⊙ Y)⁺, from the last layer down: (…, N) → (…, N).

    Args:
        layers: (X, Y), each (heads, N, N), first layer first; such as attention and its gradient.
        rows: what is asked of the product: one row of the identity for one of its rows, all for all.
    """
    rows = rows.to(layers[0][0].dtype)
    for one, other in reversed(layers):
        rows = rows + rows @ (one * other).clamp(min=0).mean(0)
    return rows


def weighed_heads(rows: Tensor, gradients: Tensor) -> Tensor:
    """relu(mean_h w_h · rows_h), w_h = mean over patches of the gradients: (heads, P) twice → (P,)."""
    return (gradients.mean(-1, keepdim=True) * rows).mean(0).relu()


def read_row(observation: Observation, matrix: Tensor) -> Tensor:
    """(…, N, N) → (…, P): the row over the patches from which the answer is read, or the mean of such rows.

    Raises:
        CaptureError: the last layer has other tokens than the first, so that it is unknown which of them is read.
    """
    count = observation.layout.num_tokens
    if matrix.shape[-1] != count:
        raise CaptureError(
            f"the last layer has {matrix.shape[-1]} tokens and the first one {count}, expected the same in all; take a "
            "model without pooling of tokens"
        )
    return on_patches(observation, read_distribution(observation).to(matrix.dtype) @ matrix)


def class_logits(observation: Observation) -> Tensor:
    """Logits (classes,) of the observed forward.

    Raises:
        InputError: the model has no classifier, or cannot run again.
    """
    model = observation.model
    with torch.no_grad():
        return model.classify(observation.output if model.head is not None else None)[0]


def chosen_class(observation: Observation, target: int | None) -> int:
    """Index of the class asked for; the predicted one where None.

    Raises:
        InputError: not a class of the model, or the model has no classifier.
    """
    logits = class_logits(observation)
    if target is None:
        return int(logits.argmax())
    index = whole_number(target)
    if index is None or not 0 <= index < logits.numel():
        raise InputError(
            f"target = {target!r}, expected the index of a class from 0 to {logits.numel() - 1}, or None for the "
            "predicted class"
        )
    return index


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


def _gradients(observation: Observation, target: int) -> AttentionGradients:
    logits, weights = run_retaining(observation)
    gradients = backward(observation, logits, target, weights)
    layers = tuple(
        LayerGradient(name, w.detach().reshape(-1, *w.shape[-2:]), g)
        for name, w, g in zip(observation.layers, weights, gradients, strict=True)
    )
    return AttentionGradients(target, logits.detach(), layers)


def _of_layer(observation: Observation, layer: str, kept: list[KeptAttention]) -> Tensor:
    shape = observation.head_chains(layer, "all").shape
    module, _, call = layer.partition("#")  # the calls of one module are layers "name", "name#2", …
    calls = sum(name.partition("#")[0] == module for name in observation.layers)
    weights = [attention.weights for attention in kept if attention.name == module]
    if len(weights) != calls:
        seen = ", ".join(repr(attention.name) for attention in kept[:4]) or "none"
        raise CaptureError(
            f"the attention weights of layer {layer!r} were seen {len(weights)} times in a differentiable forward, "
            f"expected {calls} (seen: {seen}); load the model with attention='eager' or 'sdpa'"
        )
    found = weights[int(call or 1) - 1]
    if found.shape[-2:] != shape[-2:] or found.numel() != shape.numel():
        raise CaptureError(
            f"the attention weights of layer {layer!r} have shape {tuple(found.shape)}, expected "
            f"(1, {', '.join(map(str, shape))})"
        )
    return found
