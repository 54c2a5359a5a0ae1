from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.baselines.conftest import TOLERANCE
from tokenrank.baselines.column_sum import column_sum, column_sums
from tokenrank.observation import Observation

Observe = Callable[[str], Observation]


def test_columns_of_a_worked_example() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.25, 0.5, 0.25]], dtype=torch.float64)
    assert column_sums(weights).tolist() == [0.75, 1.75, 0.5]


@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm without CLS", 0)])
def test_it_adds_what_every_patch_gives(
    observe: Observe, own_weights: Callable[[str], list[Tensor]], name: str, first: int
) -> None:
    seen = observe(name)
    found = column_sum(seen.model, seen.inputs, observation=seen, layer=2)
    expected = torch.zeros(16, dtype=torch.float64)
    for head in own_weights(name)[2]:
        for row in head[first:, first:]:
            expected += row / row.sum() / 2
    assert (found.values - expected).abs().max() < TOLERANCE[name]
    assert found.layout == seen.picture_layout


def test_it_is_the_first_bounce_from_everywhere(observe: Observe) -> None:
    seen = observe("DINOv3")
    found = column_sum(seen.model, seen.inputs, observation=seen, heads="lambda2").values
    bounce = seen.chain(heads="lambda2").bounce("image", n=1).values
    assert (found / 16 - bounce).abs().max() < 1e-14


def test_the_target_is_ignored(observe: Observe) -> None:
    seen = observe("ViT")
    one, other = (column_sum(seen.model, seen.inputs, target, observation=seen).values for target in (None, 7))
    assert torch.equal(one, other)
