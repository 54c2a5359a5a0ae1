from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.baselines.conftest import TOLERANCE
from tokenrank import TokenLayout
from tokenrank.baselines.cls_row import cls_row, cls_rows, head_weights
from tokenrank.errors import InputError, LayoutError, NotFoundError
from tokenrank.observation import Observation

Observe = Callable[[str], Observation]
Weights = Callable[[str], list[Tensor]]


@pytest.mark.parametrize(("name", "first"), [("ViT", 1), ("DINOv3", 3), ("timm", 1)])
def test_it_is_what_cls_gives_to_the_patches_in_the_last_layer(
    observe: Observe, own_weights: Weights, name: str, first: int
) -> None:
    seen, last = observe(name), own_weights(name)[-1]
    found = cls_row(seen.model, seen.inputs, observation=seen)
    expected = [(float(last[0, 0, j]) + float(last[1, 0, j])) / 2 for j in range(first, first + 16)]
    assert (found.values - torch.tensor(expected, dtype=torch.float64)).abs().max() < TOLERANCE[name]
    left_out = float(last[:, 0, :first].sum()) / 2
    assert float(found.values.sum()) == pytest.approx(1 - left_out, abs=1e-6)


def test_one_head_of_another_layer(observe: Observe, own_weights: Weights) -> None:
    seen = observe("ViT")
    found = cls_row(seen.model, seen.inputs, observation=seen, layer=0, heads=-1)
    assert (found.values - own_weights("ViT")[0][1, 0, 1:]).abs().max() < TOLERANCE["ViT"]


def test_heads_weigh_as_the_second_eigenvalue_of_their_patches(observe: Observe, own_weights: Weights) -> None:
    seen = observe("DINOv3")
    found = head_weights(seen, 1, "lambda2")
    moduli = []
    for head in own_weights("DINOv3")[1]:
        kept = head[3:, 3:] / head[3:, 3:].sum(-1, keepdim=True)
        moduli.append(torch.linalg.eigvals(kept).abs().sort(descending=True).values[1])
    expected = torch.stack(moduli) / sum(moduli)
    assert (found - expected).abs().max() < 1e-9
    weighed = cls_row(seen.model, seen.inputs, observation=seen, layer=1, heads="lambda2").values
    assert (weighed - expected @ own_weights("DINOv3")[1][:, 0, 3:]).abs().max() < 1e-9


def test_leading_dimensions_are_kept() -> None:
    weights = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(cls_rows(weights, TokenLayout.image(2, 2)), weights[..., 0, 1:])


def test_a_model_without_cls_is_refused_with_the_cure(observe: Observe) -> None:
    seen = observe("timm without CLS")
    with pytest.raises(LayoutError, match="use column_sum or rollout"):
        cls_row(seen.model, seen.inputs, observation=seen)


@pytest.mark.parametrize(
    ("heads", "error", "message"),
    [(2, NotFoundError, "no head 2: the layer has 2"), ("mean", InputError, "'mean'"), (True, InputError, "True")],
)
def test_heads_that_do_not_exist_are_refused(
    observe: Observe, heads: Any, error: type[Exception], message: str
) -> None:
    seen = observe("ViT")
    with pytest.raises(error, match=message):
        cls_row(seen.model, seen.inputs, observation=seen, heads=heads)
