"""Grad-CAM on attention and generic relevance, against their formulas in loops."""

from __future__ import annotations

import pytest
import torch

from tests.baselines.gradient_models import observe, observed, timm_vit
from tokenrank.baselines import attention_gradients, generic_relevance, grad_cam
from tokenrank.baselines.gradients import carried, weighed_heads


def whole(layers):
    """All rows of R."""
    pairs = [(layer.weights, layer.gradient) for layer in layers]
    return carried(pairs, torch.eye(layers[0].weights.shape[-1]))


@pytest.mark.parametrize("name", ["ViT, sdpa", "timm, fused"])
def test_grad_cam_follows_its_formula(name):
    seen = observed(name)
    found = grad_cam(seen, target=2)
    last = attention_gradients(seen, target=2).layers[-1]
    heads, n, _ = last.weights.shape
    for p in range(1, n):
        total = 0.0
        for h in range(heads):
            w = sum(last.gradient[h, 0, j].item() for j in range(1, n)) / (n - 1)
            total += w * last.weights[h, 0, p].item() / heads
        assert found.values[p - 1].item() == pytest.approx(max(total, 0.0), abs=1e-12)
    assert found.grid().shape == (4, 4)


def test_grad_cam_of_known_heads():
    rows = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    gradients = torch.tensor([[1.0, 2.0, 3.0], [-3.0, -3.0, 0.0]])  # means 2 and -2
    assert weighed_heads(rows, gradients).tolist() == [0.5, 0.0, 0.25]


@pytest.mark.parametrize("name", ["ViT, eager", "timm, not fused", "torchvision"])
def test_generic_relevance_follows_its_formula(name):
    seen = observed(name)
    found = generic_relevance(seen, target=4)
    layers = attention_gradients(seen, target=4).layers
    n = layers[0].weights.shape[-1]
    relevance = torch.eye(n, dtype=torch.float64)
    for layer in layers:
        step = torch.zeros(n, n, dtype=torch.float64)
        for a, g in zip(layer.weights, layer.gradient, strict=True):
            step += torch.where(a * g > 0, a * g, 0) / len(layer.weights)
        relevance = relevance + torch.matmul(step, relevance)
    torch.testing.assert_close(found.values.double(), relevance[0, 1:], atol=1e-7, rtol=1e-5)
    assert found.values.amin() >= 0


def test_relevance_carried_through_one_layer_is_the_layer_and_itself():
    weights = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]])
    gradient = torch.tensor([[[2.0, -1.0], [1.0, 0.5]]])
    torch.testing.assert_close(carried([(weights, gradient)], torch.eye(2)), torch.tensor([[2.0, 0.0], [0.2, 1.4]]))


@pytest.mark.parametrize("method", [grad_cam, generic_relevance])
def test_model_without_cls_averages_the_rows_of_the_patches(method):
    seen = observed("timm, no CLS")
    found = method(seen, target=0).values
    layers = attention_gradients(seen, target=0).layers
    if method is grad_cam:
        rows, gradients = layers[-1].weights.mean(1), layers[-1].gradient.mean(1)
        expected = (gradients.mean(-1, keepdim=True) * rows).mean(0).clamp(min=0)
    else:
        expected = whole(layers).mean(0)
    torch.testing.assert_close(found, expected)


def test_registers_are_left_out_of_the_map():
    seen = observe(timm_vit(reg_tokens=3))
    found = generic_relevance(seen)
    layers = attention_gradients(seen).layers
    expected = whole(layers)[0, 4:]
    assert found.values.shape == (16,)
    torch.testing.assert_close(found.values, expected)
