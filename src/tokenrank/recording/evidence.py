"""What a forward shows of its tokens: sizes of convolution grids, arguments of the root."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .quiet import Unnoticed

CONVOLUTIONS: frozenset[Any] = frozenset(
    {torch.conv2d, torch.conv3d, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default}
)

_FEW = 64
_SMALL = 2**16  # numbers: a float argument of up to two dimensions is kept, a picture only as its shape


@dataclass
class Evidence:
    """Of one forward call of the root.

    Attributes:
        inputs: argument name → tensor; for large floating-point arguments their shape; numbers and
            lists of numbers as they are; of lists of tensors the shapes.
        conv_grids: (rows, columns) of every conv2d output and (frames, rows, columns) of every
            conv3d output, in order.
        conv_batches: how many pictures each of them holds.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    conv_grids: list[tuple[int, ...]] = field(default_factory=list)
    conv_batches: list[int] = field(default_factory=list)


def bound_inputs(root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``root``'s forward, by parameter name."""
    try:
        bound = inspect.signature(root.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # a call that will fail, or a forward without a signature
        return dict(kwargs)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            named[name] = value
    return named


def small(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of arguments: see ``Evidence.inputs``."""
    with Unnoticed():
        tensors = {name: _small(value) for name, value in inputs.items() if isinstance(value, Tensor)}
    listed = {name: [t.shape for t in value] for name, value in inputs.items() if _is_listed(value)}
    return tensors | listed | {name: value for name, value in inputs.items() if _is_plain(value)}


def _is_listed(value: Any) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= _FEW and all(isinstance(v, Tensor) for v in value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _FEW and all(map(_is_plain, value))
    return isinstance(value, int | float)


def _small(tensor: Tensor) -> Tensor | torch.Size:
    if tensor.is_floating_point() and (tensor.ndim > 2 or tensor.numel() > _SMALL):
        return tensor.shape
    return tensor.detach().clone()
