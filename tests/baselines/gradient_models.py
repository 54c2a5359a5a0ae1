"""Tiny classifiers of three libraries in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.models.model import own_logits

SIDE, PATCH, CLASSES = 32, 8, 5
LAYERS, HEADS = 3, 2


def vit(attention: str) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    picture: dict[str, Any] = {"image_size": SIDE, "patch_size": PATCH, "num_labels": CLASSES}
    config = ViTConfig(**sizes, **picture, intermediate_size=32, attn_implementation=attention)
    return ViTForImageClassification(config)


def timm_vit(fused: bool = True, depth: int = LAYERS, heads: int = HEADS, **changes: Any) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    settings: dict[str, Any] = {"embed_dim": 16, "depth": depth, "num_heads": heads, "num_classes": CLASSES}
    module = VisionTransformer(img_size=SIDE, patch_size=PATCH, **{**settings, **changes})
    for block in module.blocks:
        block.attn.fused_attn = fused
    return module


def torchvision_vit() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(SIDE, PATCH, LAYERS, HEADS, hidden_dim=16, mlp_dim=32, num_classes=CLASSES)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "ViT, sdpa": lambda: vit("sdpa"),
    "ViT, eager": lambda: vit("eager"),
    "ViT, flex": lambda: vit("flex_attention"),
    "timm, fused": timm_vit,
    "timm, not fused": lambda: timm_vit(fused=False),
    "timm, LayerScale and norms of q and k": lambda: timm_vit(init_values=0.5, qk_norm=True),
    "timm, no CLS": lambda: timm_vit(class_token=False, global_pool="avg"),
    "torchvision": torchvision_vit,
}


def observe(built: nn.Module) -> tr.Observation:
    """The module with lively weights, as it sees one picture of noise."""
    generator = torch.Generator().manual_seed(5)
    module = built.double().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(mean + 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    pixels: Tensor = torch.randn(1, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    key = "pixel_values" if "transformers" in type(module).__module__ else "x"
    return tr.observe(tr.Model("tiny", module, "image", head=own_logits), inputs={key: pixels})


def observed(name: str) -> tr.Observation:
    return observe(BUILDERS[name]())
