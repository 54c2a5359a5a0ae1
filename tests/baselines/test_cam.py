"""Class activation maps of pytorch-grad-cam on the tokens of vision transformers."""

from __future__ import annotations

import sys

import pytest
import torch

import tokenrank as tr
from tests.baselines.gradient_models import observe, observed, timm_vit
from tokenrank.baselines import pytorch_grad_cam
from tokenrank.baselines.cam import CAM_METHODS, last_norm
from tokenrank.errors import CaptureError, InputError, MissingExtraError, NotFoundError

pytest.importorskip("pytorch_grad_cam")


def single(name):
    """The package computes in float32."""
    seen = observed(name)
    seen.model.module.float()
    return observe_again(seen)


def observe_again(seen):
    return tr.observe(seen.model, inputs={k: v.float() for k, v in seen.inputs.items()})


@pytest.mark.parametrize("name", ["timm, fused", "timm, no CLS", "ViT, eager"])
def test_grad_cam_follows_its_formula(name):
    seen = single(name)
    found = pytorch_grad_cam(seen, target=2).values
    kept = []
    handle = last_norm(seen).register_forward_hook(lambda m, a, out: kept.append(out))
    logits = seen.model.logits(seen.inputs)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, 2], kept[0])
    patches = slice(seen.patches.start, seen.patches.stop)
    weights = gradient[0, patches].mean(0)
    expected = (kept[0][0, patches] @ weights).relu().detach()
    assert expected.any()
    expected = (expected - expected.min()) / (expected - expected.min()).max()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_gives_a_map_of_the_patches_and_leaves_the_model_as_it_was(method):
    seen = single("timm, fused")
    module, before = seen.model.module, seen.model.logits(seen.inputs)
    parts, grads = list(module.named_modules()), {}
    for name, parameter in module.named_parameters():
        grads[name] = parameter.grad = torch.full_like(parameter, 0.5)
    found = pytorch_grad_cam(seen, target=1, method=method)
    assert found.grid().shape == (4, 4)
    assert torch.isfinite(found.values).all()
    assert found.values.min() >= 0
    assert found.values.max() == pytest.approx(1, abs=1e-3)
    assert torch.equal(seen.model.logits(seen.inputs), before)
    assert all(a == b for a, b in zip(module.named_modules(), parts, strict=True))
    assert all(parameter.grad is grads[name] for name, parameter in module.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_progress_bars_stay_off_the_screen(capfd):
    seen = single("timm, fused")
    pytorch_grad_cam(seen, method="score_cam")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "norm"), [("timm, fused", "blocks.2.norm1"), ("torchvision", "encoder.layers.encoder_layer_2.ln_1")]
)
def test_default_layer_is_the_first_norm_of_the_last_block(name, norm):
    seen = single(name)
    assert last_norm(seen) is seen.model.module.get_submodule(norm)


def test_norms_inside_of_the_attention_are_passed_over():
    seen = observe_again(observe(timm_vit(qk_norm=True).float()))
    seen.model.module.float()
    assert last_norm(seen) is seen.model.module.blocks[-1].norm1


def test_of_a_block_that_runs_twice_the_last_call_counts():
    module = timm_vit()
    module.blocks[2] = module.blocks[1]
    seen = observe_again(observe(module.float()))
    module.float()
    assert seen.layers[-1] == "blocks.1.attn#2"
    assert last_norm(seen) is module.blocks[1].norm1


def test_target_layer_is_taken_by_name():
    seen = single("timm, fused")
    default = pytorch_grad_cam(seen, target=1)
    same = pytorch_grad_cam(seen, target=1, target_layer="blocks.2.norm1")
    other = pytorch_grad_cam(seen, target=1, target_layer="blocks.0.norm1")
    assert torch.equal(same.values, default.values)
    assert not torch.equal(other.values, default.values)


def test_layer_behind_the_last_attention_is_refused():
    seen = single("timm, fused")
    with pytest.raises(CaptureError, match="does not depend on the patches"):
        pytorch_grad_cam(seen, target_layer="norm")


def test_layer_that_returns_something_else_is_refused():
    seen = single("timm, fused")
    with pytest.raises(CaptureError, match=r"expected the states of all 17 tokens"):
        pytorch_grad_cam(seen, target_layer="patch_embed")
    assert not any(m._forward_hooks for m in seen.model.module.modules())


def test_unknown_layer_and_method_are_refused():
    seen = single("timm, fused")
    with pytest.raises(NotFoundError, match=r"blocks\.2\.norm1"):
        pytorch_grad_cam(seen, target_layer="blocks.2.norm")
    with pytest.raises(InputError, match="method = 'cam', expected one of grad_cam"):
        pytorch_grad_cam(seen, method="cam")


def test_missing_package_is_named_with_its_extra(monkeypatch):
    seen = single("timm, fused")
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        pytorch_grad_cam(seen)
