"""A model on another device, whose inputs follow it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..models import Model


def model_on(model: Model, device: str) -> Model:
    """The same model with its weights on ``device``; what its module is given is moved there.

    The module of a model elsewhere is copied: the one that was given stays where it is, without a hook. One that is on
    the CPU and is asked for there comes back as it is.
    """
    if torch.device(device).type == "cpu":
        return model
    module = copy.deepcopy(model.module).to(device)
    module.register_forward_pre_hook(_follow, with_kwargs=True)
    return replace(model, module=module)


def _follow(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    device = next(module.parameters()).device
    moved = tuple(value.to(device) if isinstance(value, Tensor) else value for value in args)
    return moved, {name: value.to(device) if isinstance(value, Tensor) else value for name, value in kwargs.items()}
