"""Transformer attribution and partial LRP from gradients and relevance, against their formulas."""

from __future__ import annotations

import pytest
import torch

from tests.baselines.gradient_models import observed
from tokenrank.baselines import attention_gradients, attention_relevance, partial_lrp, transformer_attribution
from tokenrank.baselines.gradients import carried
from tokenrank.errors import InputError


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("name", ["ViT, sdpa", "timm, fused"])
def test_transformer_attribution_follows_its_formula(name, start):
    seen = observed(name)
    found = transformer_attribution(seen, target=1, start_layer=start)
    gradients = attention_gradients(seen, target=1).layers
    relevance = attention_relevance(seen, target=1)
    product = torch.eye(17, dtype=torch.float64)
    for g, r in list(zip(gradients, relevance, strict=True))[start:]:
        step = torch.zeros(17, 17, dtype=torch.float64)
        for h in range(2):
            step += torch.where(g.gradient[h] * r.relevance[h] > 0, g.gradient[h] * r.relevance[h], 0) / 2
        product = (torch.eye(17, dtype=torch.float64) + step) @ product
    torch.testing.assert_close(found.values, product[0, 1:])
    assert found.values.any()


def test_layer_zero_is_left_out_by_default():
    seen = observed("timm, fused")
    maps = [transformer_attribution(seen, target=1, **o) for o in ({}, {"start_layer": 1})]
    assert torch.equal(maps[0].values, maps[1].values)
    other = transformer_attribution(seen, target=1, start_layer=0)
    assert not torch.equal(other.values, maps[0].values)


def test_rollout_multiplies_later_layers_from_the_left():
    first, second = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([[[0.0, 0.0], [1.0, -1.0]]])
    one = torch.ones(1, 2, 2)
    expected = torch.tensor([[1.0, 0.0], [1.0, 1.0]]) @ torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert torch.equal(carried([(first, one), (second, one)], torch.eye(2)), expected)


@pytest.mark.parametrize("start", [-1, 3])
def test_start_layer_out_of_range_is_refused(start):
    seen = observed("timm, fused")
    with pytest.raises(InputError, match=f"start_layer = {start}, expected a layer from 0 to 2"):
        transformer_attribution(seen, start_layer=start)


def test_partial_lrp_is_the_positive_relevance_of_the_last_layer():
    seen = observed("torchvision")
    found = partial_lrp(seen, target=0)
    last = attention_relevance(seen, target=0)[-1].relevance
    expected = sum(torch.where(last[h, 0, 1:] > 0, last[h, 0, 1:], 0) for h in range(2)) / 2
    torch.testing.assert_close(found.values, expected)
    assert found.grid().shape == (4, 4)


def test_model_without_cls_averages_the_rows_of_the_patches():
    seen = observed("timm, no CLS")
    found = partial_lrp(seen, target=0)
    last = attention_relevance(seen, target=0)[-1].relevance
    torch.testing.assert_close(found.values, last.clamp(min=0).mean((0, 1)))
