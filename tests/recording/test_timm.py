"""timm's vision transformers, with and without its fused attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from .reference import recorded, weights_of

timm = pytest.importorskip("timm")


def build(name: str, **options: object) -> nn.Module:
    torch.manual_seed(1)
    model = timm.create_model(name, pretrained=False, img_size=(32, 48), patch_size=8, num_classes=0, **options)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.25)
    return model.eval()


def own_weights(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What the softmax of the unfused path gives."""
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        model(x)
    return seen


MODELS = {
    "vit": ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48}),
    "registers": ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48, "reg_tokens": 4}),
    "rotary": ("eva02_tiny_patch14_224", {"depth": 2, "embed_dim": 48, "num_heads": 3}),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_record_is_the_models_own_attention(kind: str, fused: bool) -> None:
    name, options = MODELS[kind]
    model, x = build(name, **options), torch.randn(2, 3, 32, 48)
    for block in model.blocks:
        block.attn.fused_attn = fused
    with torch.no_grad():
        plain = model(x)
    out, records = recorded(model, x)
    assert torch.equal(out, plain)
    assert [r.kind for r in records] == ["sdpa" if fused else "eager"] * 2
    assert [r.name for r in records] == ["blocks.0.attn", "blocks.1.attn"]
    assert records[0].shape[-1] == 24 + (5 if kind == "registers" else 1)
    for record, weights in zip(records, own_weights(model, x), strict=True):
        assert weights.amax() > 0.5
        torch.testing.assert_close(weights_of(record), weights.double(), rtol=0, atol=1e-5)
