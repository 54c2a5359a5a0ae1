"""Relevance through whole models: by hand in a net of one block, conserved, and refused where no rule is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tokenrank as tr
from tests.baselines.gradient_models import BUILDERS, observe, observed, timm_vit
from tokenrank.baselines import attention_relevance
from tokenrank.baselines.gradients import differentiable
from tokenrank.baselines.relevance_rules import RelevanceMode
from tokenrank.errors import CaptureError
from tokenrank.recording import KeepWeights, acting


def shared(x, w, relevance):
    """z⁺ by the full table of contributions: x (n, in), w (out, in), relevance (n, out) → (n, in)."""
    pushes = (x[:, None, :] * w[None]).clamp(min=0)
    return (pushes / pushes.sum(-1, keepdim=True) * relevance[..., None]).sum(1)


def split(x, y, relevance):
    """Relevance of x + y by contribution, both scaled to conserve the whole."""
    u, v = x / (x + y) * relevance, y / (x + y) * relevance
    u[relevance == 0], v[relevance == 0] = 0, 0
    size = u.sum().abs() + v.sum().abs()
    scale = [part.sum().abs() / size * relevance.sum() / part.sum() for part in (u, v)]
    return u * scale[0], v * scale[1]


@torch.no_grad()
def by_hand(module, pixels, target):
    """Relevance of the one head's attention weights in timm's ViT of one block, each step written out."""
    block = module.blocks[0]
    x0 = torch.cat([module.cls_token[0], module.patch_embed(pixels)[0]]) + module.pos_embed[0]
    normed = F.layer_norm(x0, x0.shape[-1:], block.norm1.weight, block.norm1.bias, block.norm1.eps)
    q, k, v = (normed @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(16, -1)
    weights = torch.exp(q @ k.T / 4)
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = weights @ v
    attended = mixed @ block.attn.proj.weight.T + block.attn.proj.bias
    x1 = x0 + attended
    normed = F.layer_norm(x1, x1.shape[-1:], block.norm2.weight, block.norm2.bias, block.norm2.eps)
    hidden = F.gelu(normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
    after = hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    x2 = x1 + after
    last = F.layer_norm(x2, x2.shape[-1:], module.norm.weight, module.norm.bias, module.norm.eps)

    relevance = torch.zeros(1, 5, dtype=torch.float64)
    relevance[0, target] = 1
    at_x2 = torch.zeros_like(x2)
    at_x2[:1] = shared(last[:1], module.head.weight, relevance)
    skipped, at_after = split(x1, after, at_x2)
    at_hidden = torch.zeros_like(hidden)
    at_hidden[:1] = shared(hidden[:1], block.mlp.fc2.weight, at_after[:1])
    at_x1 = skipped
    at_x1[:1] += shared(normed[:1], block.mlp.fc1.weight, at_hidden[:1])
    _, at_attended = split(x0, attended, at_x1)
    at_mixed = torch.zeros_like(mixed)
    at_mixed[:1] = shared(mixed[:1], block.attn.proj.weight, at_attended[:1])
    found = torch.zeros_like(weights)
    for j in range(len(weights)):
        found[0, j] = sum(weights[0, j] * v[j, c] / mixed[0, c] * at_mixed[0, c] for c in range(16)) / 2
    return found


def test_one_block_with_one_head_agrees_with_the_computation_by_hand():
    seen = observe(timm_vit(depth=1, heads=1))
    (found,) = attention_relevance(seen, target=2)
    expected = by_hand(seen.model.module, seen.inputs["x"], 2)
    assert expected[0].abs().max() > 1e-3
    torch.testing.assert_close(found.relevance[0], expected, atol=1e-6, rtol=1e-5)
    assert not found.relevance[0, 1:].any()  # CLS alone is read


@pytest.mark.parametrize("name", BUILDERS)
def test_last_layer_holds_at_most_half_of_the_relevance(name):
    """A model passes 1 in all; the weights of a product get half of what its attention branch gets."""
    seen = observed(name)
    found = attention_relevance(seen)
    assert [layer.name for layer in found] == list(seen.layers)
    for layer in found:
        assert layer.relevance.shape == seen.head_chains(layer.name, "all").shape
        assert torch.isfinite(layer.relevance).all()
        assert layer.relevance.any()
    assert 0 < found[-1].relevance.sum() < 0.5


def test_fused_and_plain_attention_carry_the_same_relevance():
    fused, plain = (observed(f"timm, {name}") for name in ("fused", "not fused"))
    pairs = zip(*(attention_relevance(o, target=0) for o in (fused, plain)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a.relevance, b.relevance, atol=1e-9, rtol=1e-6)


def test_pixels_get_all_of_the_relevance_in_a_model_without_cls():
    """Constants (position embeddings, biases) get none, so that 1 at the class comes out at the picture."""
    # wide enough that every output of a linear map has something that pushes it up
    seen = observe(timm_vit(class_token=False, global_pool="avg", embed_dim=64))
    inputs = differentiable(seen.inputs)
    with RelevanceMode(seen.model.module), acting(seen.model.module, KeepWeights()):
        logits = seen.model.logits(inputs)
    torch.testing.assert_close(logits, seen.model.logits(seen.inputs))
    (found,) = torch.autograd.grad(logits[0, 3], inputs["x"])
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert found.abs().max() > 0


def test_rotary_positions_of_the_bundled_model_keep_relevance_finite_and_in_place():
    model = tr.load("bundled")
    inputs = {"pixel_values": torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(2))}
    seen = tr.observe(model, inputs=inputs)
    found = attention_relevance(seen)
    assert len(found) == len(seen.layers) == 12
    assert all(torch.isfinite(layer.relevance).all() for layer in found)
    assert not found[-1].relevance[:, 1:].any()  # its classifier reads CLS


def test_rotation_moves_relevance_within_its_pair_of_channels():
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(3, 4, generator=draw, dtype=torch.float64).requires_grad_()
    angle = torch.rand(3, 2, generator=draw, dtype=torch.float64).repeat(1, 2)
    with RelevanceMode(nn.Identity()):
        rotated = x * angle.cos() + torch.cat((-x[..., 2:], x[..., :2]), -1) * angle.sin()
    relevance = torch.zeros(3, 4, dtype=torch.float64)
    relevance[1, 0] = 1.0
    (found,) = torch.autograd.grad(rotated, x, relevance)
    assert found.sum().item() == pytest.approx(1, abs=1e-6)
    moved = found.clone()
    moved[1, [0, 2]] = 0
    assert not moved.any()


class Powers(nn.Module):
    """Its channels are cubed, for which there is no rule."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).pow(3)


class WritesInPlace(Powers):
    def forward(self, x):
        return self.inner(x).add_(1.0)


@pytest.mark.parametrize(("wrapper", "name"), [(Powers, "pow"), (WritesInPlace, "add_")])
def test_function_without_a_rule_is_refused_by_name(wrapper, name):
    module = timm_vit()
    module.blocks[1].mlp = wrapper(module.blocks[1].mlp)
    seen = observe(module)
    with pytest.raises(CaptureError, match=rf"through '{name}', called in 'blocks\.1\.mlp'"):
        attention_relevance(seen)


@pytest.mark.parametrize(
    ("run", "value"),
    [
        (lambda x: x + 3, 1.0),
        (lambda x: 3 + x, 1.0),
        (lambda x: 1 - x, 1.0),
        (lambda x: x - 1, 1.0),
        (lambda x: -x, 1.0),
        (lambda x: x * torch.tensor([2.0, -1.0]), 1.0),
        (lambda x: 2 * x / 5, 1.0),
        (lambda x: x * torch.sigmoid(1.7 * x), 1.0),
        (lambda x: F.gelu(x), 1.0),
        (lambda x: F.layer_norm(x, (2,)), 1.0),
        (lambda x: x.softmax(-1), 1.0),
    ],
)
def test_unary_operations_pass_all_relevance_entry_by_entry(run, value):
    x = torch.tensor([[0.5, -2.0], [1.5, 3.0]], requires_grad=True)
    with RelevanceMode(nn.Identity()):
        out = run(x)
    assert torch.equal(out.detach(), run(x.detach()))
    relevance = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    (found,) = torch.autograd.grad(out, x, relevance)
    torch.testing.assert_close(found, relevance * value)


@pytest.mark.parametrize("run", [lambda x: x.exp(), lambda x: 1 / x, lambda x: x / x, lambda x: x.cumsum(0)])
def test_operations_without_a_rule_are_refused(run):
    x = torch.tensor([0.5, 2.0], requires_grad=True)
    with RelevanceMode(nn.Identity()), pytest.raises(CaptureError, match="no rule for relevance"):
        run(x)
