from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.baselines.conftest import TOLERANCE
from tokenrank import AttentionChain
from tokenrank.baselines.rollout import rolled_out, rollout
from tokenrank.errors import ChainError, InputError
from tokenrank.observation import Observation

Observe = Callable[[str], Observation]
Weights = Callable[[str], list[Tensor]]


def product(layers: list[Tensor], start_layer: int = 0) -> Tensor:
    """The paper's recipe: average heads, add the identity, divide rows by their sums, multiply from the left."""
    n = layers[0].shape[-1]
    joint = torch.eye(n, dtype=torch.float64)
    for heads in layers[start_layer:]:
        mixed = torch.eye(n, dtype=torch.float64)
        for head in heads:
            mixed = mixed + head / len(heads)
        joint = (mixed / mixed.sum(-1, keepdim=True)) @ joint
    return joint


@pytest.mark.parametrize("start_layer", [0, 1])
@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm", 1)])
def test_it_is_the_row_of_cls_in_the_explicit_product(
    observe: Observe, own_weights: Weights, name: str, first: int, start_layer: int
) -> None:
    seen = observe(name)
    found = rollout(seen.model, seen.inputs, observation=seen, start_layer=start_layer)
    expected = product(own_weights(name), start_layer)[0, first:]
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.layout == seen.picture_layout


def test_without_cls_it_is_the_mean_of_the_columns(observe: Observe, own_weights: Weights) -> None:
    seen = observe("timm without CLS")
    found = rollout(seen.model, seen.inputs, observation=seen).values
    assert (found - product(own_weights("timm without CLS")).mean(0)).abs().max() < 1e-12
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.parametrize("target", [6, tr.at(0.6, 0.3)])
def test_a_target_asks_for_the_row_of_a_patch(observe: Observe, own_weights: Weights, target: Any) -> None:
    seen = observe("DINOv3")
    found = rollout(seen.model, seen.inputs, target, observation=seen).values
    assert (found - product(own_weights("DINOv3"))[3 + 6, 3:]).abs().max() < 1e-12


def test_without_residual_layers_multiply_as_they_are() -> None:
    first, second = torch.rand(2, 2, 4, 4, dtype=torch.float64).softmax(-1)
    found = rolled_out([AttentionChain(first), AttentionChain(second)], residual=0).to_dense()
    assert (found - second.mean(0) @ first.mean(0)).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (None, {"start_layer": 3}, InputError, "start_layer = 3, expected a layer from 0 to 2"),
        (None, {"start_layer": -1}, InputError, "start_layer = -1"),
        (None, {"residual": 1.5}, ChainError, "residual = 1.5"),
        (16, {}, ChainError, "token 16"),
    ],
)
def test_it_refuses(
    observe: Observe, target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        rollout(seen.model, seen.inputs, target, observation=seen, **options)
