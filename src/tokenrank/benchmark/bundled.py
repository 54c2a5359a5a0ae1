"""The bundled network and photographs, on the device that is measured."""

from __future__ import annotations

import torch

from .. import samples
from ..models import Model, load
from ..observation import Observation
from ..reading import observe


def network(device: torch.device) -> Model:
    """The bundled network of pictures, on ``device``."""
    model = load("bundled", kind="image")
    model.module.to(device)
    return model


def observed(name: str, model: Model, device: torch.device) -> Observation:
    """One photograph, read anew; nothing has run yet."""
    if device.type == "cpu":
        return observe(samples.path(name), model)
    inputs = {key: value.to(device) for key, value in model.prepare(samples.path(name)).items()}
    return observe(model.module, inputs=inputs, image=samples.path(name))
