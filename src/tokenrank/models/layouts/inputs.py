"""What the arguments of a forward say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = Mapping[str, Any]
"""Argument name → tensor, ``torch.Size`` of a large float tensor, number or list; see ``Evidence.inputs``."""


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor that is kept, or of one of which only the shape is; None for anything else."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return tuple(value) if isinstance(value, torch.Size) else None


def shape(inputs: Inputs, *names: str) -> tuple[int, ...] | None:
    """The shape of the first of these arguments that is there."""
    return next((s for name in names if (s := shape_of(inputs.get(name))) is not None), None)


def whole_numbers(inputs: Inputs, name: str) -> Tensor | None:
    """An argument of whole numbers, on the CPU; None where it is not there or its numbers were not kept."""
    value = inputs.get(name)
    if not isinstance(value, Tensor) or value.is_meta or value.is_floating_point() or value.is_complex():
        return None
    return value.detach().cpu()


def picture_shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    """Shapes (B, C, H, W) of the floating-point arguments with one to four channels."""
    floats = [v for v in inputs.values() if not isinstance(v, Tensor) or v.is_floating_point()]
    shapes = [s for v in floats if (s := shape_of(v)) is not None]
    return [s for s in shapes if len(s) == 4 and 1 <= s[1] <= 4]
