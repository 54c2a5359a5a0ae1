"""Which class a class-specific method explains."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..observation import Observation
from ..recording.selection import whole


def class_logits(observation: Observation) -> Tensor:
    """Logits (classes,) of the observed forward.

    Raises:
        InputError: the model has no classifier.
    """
    with torch.no_grad():
        return observation.model.classify(observation.output)[0]


def chosen_class(observation: Observation, target: int | None) -> int:
    """Index of the class asked for; the predicted one where None.

    Raises:
        InputError: not a class of the model, or the model has no classifier.
    """
    logits = class_logits(observation)
    if target is None:
        return int(logits.argmax())
    index = whole(target)
    if index is None or not 0 <= index < logits.numel():
        raise InputError(
            f"target = {target!r}, expected the index of a class from 0 to {logits.numel() - 1}, or None for the "
            "predicted class"
        )
    return index
