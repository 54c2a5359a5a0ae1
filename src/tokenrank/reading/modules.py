"""Modules and their inputs: the forward of any torch module, with its arguments named."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from ..errors import InputError, TokenRankError, TokenRankWarning
from ..layout import LayoutChoice
from ..models import Modality, Model
from ..models.images import is_pixels
from ..observation import Observation
from ..recording import LayerSelection
from ..trace import Trace, capture
from ..trace.running import cannot_run

Inputs: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | np.ndarray"
"""Keyword arguments of a module, positional ones, or the one tensor."""


def of_module(
    source: Model | nn.Module,
    inputs: Inputs | None,
    layers: LayerSelection,
    layout: LayoutChoice,
    picture: PIL.Image.Image | None,
) -> Observation:
    """What a module attends to on its own inputs; it runs when something is first asked.

    Args:
        source: the module, or a loaded model.
        inputs: of its forward; None is an error that says what to give.
        layers: which layers to record.
        layout: which token is what, by hand.
        picture: the one behind the inputs.

    Raises:
        InputError: no inputs, or inputs that do not fit the module.

    Warns:
        TokenRankWarning: the module is in train mode and random.
    """
    if isinstance(source, Model) and inputs is None:
        raise InputError(f"model {source.name!r} was given nothing to look at; tr.observe(picture or text, model=…)")
    if inputs is None:
        raise InputError(
            f"{type(source).__name__} was given no inputs; tr.observe(module, inputs={{'pixel_values': …}}), or "
            "tr.observe(source, model=…) with a model of tr.load"
        )
    module = source.module if isinstance(source, Model) else source
    named = _named_inputs(module, inputs)
    kind: Modality = "image" if any(is_pixels(value) for value in named.values()) else "text"
    model = source if isinstance(source, Model) else Model(type(source).__name__, source, kind)

    _warn_if_random(module)
    modality = model.kind if isinstance(source, Model) else None
    run = partial(_captured_content, model, layers=layers, layout=layout)
    return Observation(run, model.name, model, named, picture, modality, layout_choice=layout)


def captured(
    model: Model, inputs: Mapping[str, Any], layers: LayerSelection, layout: LayoutChoice
) -> tuple[Trace, Any]:
    """The forward of a model: what it attended to and what it returned.

    Raises:
        InputError: the module cannot run on these inputs, looked at or not; its own error is the cause.
    """
    try:
        with capture(model, layers, layout=layout) as trace:
            output = model.forward(inputs)
    except (TokenRankError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        try:
            model.forward(inputs)
        except Exception as own:
            raise cannot_run(model.module, inputs, own, "tr.observe") from own
        raise error
    return trace, output


def _captured_content(
    model: Model, inputs: Mapping[str, Any], layers: LayerSelection, layout: LayoutChoice
) -> tuple[Trace, Any]:
    """``captured``, without the padding that inputs made by hand may hold."""
    trace, output = captured(model, inputs, layers, layout)
    return _without_padding(trace, inputs), output


def _named_inputs(module: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Inputs as keyword arguments of the module's forward.

    Raises:
        InputError: they do not fit its signature.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Tensor | Sequence):
        raise InputError(
            f"inputs of {type(module).__name__} are a {type(inputs).__name__}, expected a mapping of names, a list in "
            "the order of its forward, or the one tensor; what is not prepared goes to tr.observe(source, model=…)"
        )
    positional = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    try:
        bound = inspect.signature(module.forward).bind(*positional)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"inputs do not fit {type(module).__name__}.forward: {error}; give a mapping of names"
        ) from None
    kinds = {bound.signature.parameters[name].kind for name in bound.arguments}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
        raise InputError(
            f"{type(module).__name__}.forward takes arguments without names; wrap it in a module that names them"
        )
    return dict(bound.arguments)


def _without_padding(trace: Trace, inputs: Mapping[str, Any]) -> Trace:
    """Padding of the one text is dropped; nothing attends to it, so that this is exact."""
    mask = inputs.get("attention_mask")
    padded = isinstance(mask, Tensor) and mask.ndim == 2 and len(mask) == 1 and bool((mask == 0).any())
    return trace.select(sample=0) if padded else trace


def _warn_if_random(module: nn.Module) -> None:
    """Warn of a module in train mode with dropout, whose attention is another one at each call."""
    active = [name for name, part in module.named_modules() if part.training and _is_random(part)]
    if active:
        warnings.warn(
            f"{type(module).__name__} is in train mode, with dropout or batch statistics in {active[0]!r}"
            f"{' and others' if len(active) > 1 else ''}: what it attends to is random; call module.eval() first",
            TokenRankWarning,
            stacklevel=4,
        )


def _is_random(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.modules.batchnorm._BatchNorm)
