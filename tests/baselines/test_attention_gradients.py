"""Gradients of attention weights: against the trace, the library's own graph, and finite differences."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F

import tokenrank as tr
from tests.baselines.gradient_models import BUILDERS, observe, observed, timm_vit, vit
from tokenrank.baselines import attention_gradients
from tokenrank.errors import CaptureError, InputError
from tokenrank.recording import KeepWeights, acting
from tokenrank.recording.fused import sdpa_call, written_out


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_are_those_of_the_trace(name):
    seen = observed(name)
    found = attention_gradients(seen)
    assert tuple(layer.name for layer in found.layers) == seen.layers
    for layer in found.layers:
        assert layer.gradient.shape == layer.weights.shape
        # transformers' eager ViT rounds its softmax to float32
        expected = seen.head_chains(layer.name, "all").to_dense()
        torch.testing.assert_close(layer.weights.double(), expected.double(), atol=1e-7, rtol=0)


def test_bundled_model_shows_the_weights_of_the_trace():
    model = tr.load("bundled")
    inputs = {"pixel_values": torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(2))}
    seen = tr.observe(model, inputs=inputs)
    found = attention_gradients(seen)
    for layer in found.layers:
        expected = seen.head_chains(layer.name, "all").to_dense()
        torch.testing.assert_close(layer.weights, expected, atol=1e-5, rtol=0)
        assert layer.gradient.abs().max() > 0


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_gradients_are_those_of_the_graph_of_transformers(attention):
    seen = observe(vit(attention))
    found = attention_gradients(seen, target=3)
    module = observe(vit("eager")).model.module
    out = module(**seen.inputs, output_attentions=True)
    expected = torch.autograd.grad(out.logits[0, 3], out.attentions)
    for layer, gradient in zip(found.layers, expected, strict=True):
        torch.testing.assert_close(layer.gradient.double(), gradient[0].double(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["timm, fused", "timm, not fused", "timm, no CLS"])
def test_gradients_are_finite_differences(name):
    seen = observed(name)
    found = attention_gradients(seen, target=1)
    module = seen.model.module
    for block in module.blocks:
        block.attn.fused_attn = False
    step, places = 1e-5, [(0, 0, 3), (1, 4, 2), (1, 0, 7), (0, 9, 9)]
    for number, layer in enumerate(found.layers):
        for place in places:
            ends = []
            for sign in (1, -1):
                move = torch.zeros_like(layer.weights)
                move[place] = sign * step
                # timm passes the weights of plain attention through this module
                hook = module.blocks[number].attn.attn_drop.register_forward_hook(
                    lambda m, a, out, move=move: out + move
                )
                ends.append(seen.model.logits(seen.inputs)[0, 1].item())
                hook.remove()
            assert layer.gradient[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8, rel=1e-5)


def test_the_calls_of_one_module_are_layers_of_their_own():
    module = timm_vit()
    module.blocks[1] = module.blocks[0]
    seen, apart = observe(module), observe(copy.deepcopy(module))
    assert seen.layers == ("blocks.0.attn", "blocks.0.attn#2", "blocks.2.attn")
    apart.model.module.blocks[1] = copy.deepcopy(apart.model.module.blocks[0])
    found, expected = (attention_gradients(o, target=1).layers for o in (seen, apart))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.gradient, b.gradient, atol=1e-13, rtol=1e-10)


def test_nothing_stays_behind_on_the_model_or_in_torch():
    seen = observed("timm, fused")
    module, fused = seen.model.module, F.scaled_dot_product_attention
    before = seen.model.logits(seen.inputs)
    attention_gradients(seen)
    assert F.scaled_dot_product_attention is fused
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())
    assert torch.equal(seen.model.logits(seen.inputs), before)
    assert not next(iter(seen.inputs.values())).requires_grad


def test_frozen_parameters_and_no_grad_around_change_nothing():
    seen, frozen = observed("timm, fused"), observed("timm, fused")
    frozen.model.module.requires_grad_(False)
    expected = attention_gradients(seen, target=2)
    with torch.no_grad():
        found = attention_gradients(frozen, target=2)
    for a, b in zip(found.layers, expected.layers, strict=True):
        torch.testing.assert_close(a.gradient, b.gradient, atol=1e-13, rtol=1e-10)


def test_predicted_class_is_the_default_and_the_answer_is_kept():
    seen = observed("timm, fused")
    found = attention_gradients(seen)
    assert found.target == int(seen.model.logits(seen.inputs).argmax())
    assert attention_gradients(seen, target=found.target) is found
    other = attention_gradients(seen, target=(found.target + 1) % 5)
    assert not torch.equal(other.layers[0].gradient, found.layers[0].gradient)


@pytest.mark.parametrize("target", [-1, 5, 1.5, "cat", True])
def test_what_is_no_class_is_refused(target):
    seen = observed("timm, fused")
    with pytest.raises(InputError, match=r"target = .*expected the index of a class from 0 to 4"):
        attention_gradients(seen, target=target)


def test_model_without_classifier_is_refused():
    seen = observed("timm, fused")
    with pytest.raises(InputError, match="no classifier"):
        attention_gradients(tr.Model("bare", seen.model.module, "image"), inputs=seen.inputs)


def test_dropout_is_refused():
    seen = observe(timm_vit(attn_drop_rate=0.5))
    assert seen.layers
    seen.model.module.train()
    with pytest.raises(CaptureError, match=r"dropout 0\.5"):
        attention_gradients(seen)


@pytest.mark.parametrize(
    "options", ["plain", "bool mask", "float mask", "causal", "scale", "grouped"]
)  # fmt: skip
def test_written_out_attention_is_the_fused_one(options):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 6, 8, generator=draw, dtype=torch.float64) for _ in range(3))
    mask = torch.rand(6, 6, generator=draw) > 0.4
    mask.fill_diagonal_(True)
    given = {
        "plain": {},
        "bool mask": {"attn_mask": mask},
        "float mask": {"attn_mask": torch.randn(6, 6, generator=draw, dtype=torch.float64)},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.7},
        "grouped": {"enable_gqa": True},
    }[options]
    if options == "grouped":
        k, v = k[:, :2], v[:, :2]
    expected = F.scaled_dot_product_attention(q, k, v, **given)
    torch.testing.assert_close(written_out(sdpa_call(q, k, v, **given))[0], expected, atol=1e-13, rtol=0)
    act = KeepWeights()
    with acting(torch.nn.Identity(), act):
        out = F.scaled_dot_product_attention(q, k, v, **given)
    torch.testing.assert_close(out, expected, atol=1e-13, rtol=0)
    assert [attention.weights.shape for attention in act.kept] == [(2, 4, 6, 6)]


def test_query_that_sees_no_key_is_refused():
    q = torch.ones(1, 1, 3, 2)
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, True]])
    with pytest.raises(CaptureError, match="without any key"), acting(torch.nn.Identity(), KeepWeights()):
        F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


def test_graph_is_let_go():
    seen = observed("timm, fused")
    found = attention_gradients(seen)
    gc.collect()
    assert all(not layer.weights.requires_grad and layer.weights.grad_fn is None for layer in found.layers)
