"""Relevance of every attention weight for a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...models import Model
from ...observation import Observation
from ..attention_gradients import backward
from ..class_target import chosen_class
from ..retaining import run_retaining
from .mode import RelevanceMode


@dataclass(frozen=True, eq=False)
class LayerRelevance:
    """One layer.

    Attributes:
        name: of the module that computed the attention.
        relevance: R, (heads, N, N), of either sign: what arrives at each attention weight from 1 at the class.
    """

    name: str
    relevance: Tensor


def attention_relevance(
    model: Model, inputs: Mapping[str, Any], target: int | None = None, *, observation: Observation | None = None
) -> tuple[LayerRelevance, ...]:
    """Layer-wise relevance propagation from a class's logit to the attention weights of every layer.

    Rules of Chefer, Gur and Wolf (CVPR 2021), section 3.1, α = 1: z⁺ for linear maps, halves for matrix products,
    contributions for sums, and everything to the input of norms, activations and softmax (the rules one by one:
    ``rules.py``). Relevance starts as 1 at
    the class and 0 at others. The forward runs once more; the model is not touched. The answer is kept in the
    observation, in the order of ``Observation.layers``.

    Args:
        model: a classifier of pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: index of the class; the predicted one where None.
        observation: of the same picture, where there is one.

    Raises:
        InputError: the model has no classifier or no such class.
        CaptureError: the weights of a layer cannot be seen, or relevance would pass a function without a rule.
    """
    seen = Observation.of(model, inputs, observation)
    index = chosen_class(seen, target)
    return seen.keep(("relevance", index), lambda: _relevance(seen, index))


def _relevance(observation: Observation, target: int) -> tuple[LayerRelevance, ...]:
    logits, weights = run_retaining(observation, RelevanceMode(observation.model.module))
    arrived = backward(observation, logits, target, weights)
    return tuple(LayerRelevance(name, r) for name, r in zip(observation.layers, arrived, strict=True))
