"""Tiny vision transformers of three libraries in double precision, and one picture that they all read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr

SIDE, PATCH = 32, 8
TOLERANCE = {"ViT": 1e-6, "DINOv3": 1e-12, "timm": 1e-12, "timm without CLS": 1e-12}
"""Between captured weights and ``own_weights``; eager attention of transformers' ViT rounds its softmax to float32."""
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def vit(attention: str = "sdpa") -> nn.Module:
    """CLS and 16 patches; three layers of two heads."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**SIZES, image_size=SIDE, patch_size=PATCH, attn_implementation=attention, initializer_range=0.5)
    return ViTModel(config, add_pooling_layer=False)


def dinov3(attention: str = "sdpa") -> nn.Module:
    """CLS, two registers and 16 patches, with rotary positions."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    settings: dict[str, Any] = {"num_register_tokens": 2, "initializer_range": 0.5}
    config = DINOv3ViTConfig(**SIZES, image_size=SIDE, patch_size=PATCH, attn_implementation=attention, **settings)
    return DINOv3ViTModel(config)


def timm_vit(class_token: bool = True) -> nn.Module:
    """With CLS and without."""
    from timm.models.vision_transformer import VisionTransformer

    settings: dict[str, Any] = {"embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 5}
    pool = "token" if class_token else "avg"
    module = VisionTransformer(img_size=SIDE, patch_size=PATCH, class_token=class_token, global_pool=pool, **settings)
    for parameter in module.parameters():  # timm's own weights are so small that attention is all but uniform
        nn.init.normal_(parameter, std=0.4)
    return module


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "ViT": vit,
    "DINOv3": dinov3,
    "timm": timm_vit,
    "timm without CLS": lambda: timm_vit(class_token=False),
}


@pytest.fixture(scope="session")
def pixels() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture(scope="session")
def observe(pixels: Tensor) -> Callable[[str], tr.Observation]:
    """A name of ``BUILDERS`` → the picture as this model sees it; one observation a name."""
    made: dict[str, tr.Observation] = {}

    def by_name(name: str) -> tr.Observation:
        if name not in made:
            with torch.random.fork_rng():  # the test that asks first keeps its own random numbers
                torch.manual_seed(1)
                module = BUILDERS[name]().double().eval()
            key = "x" if name.startswith("timm") else "pixel_values"
            made[name] = tr.observe(tr.Model(name, module, "image"), inputs={key: pixels})
        return made[name]

    return by_name


@pytest.fixture(scope="session")
def own_weights(observe: Callable[[str], tr.Observation], pixels: Tensor) -> Callable[[str], list[Tensor]]:
    """A name of ``BUILDERS`` → attention weights (heads, N, N) of all layers as the model's library gives them out."""
    made: dict[str, list[Tensor]] = {}

    def by_name(name: str) -> list[Tensor]:
        if name not in made:
            module = observe(name).model.module
            weights = _timm_weights(module, pixels) if name.startswith("timm") else _eager_weights(name, module, pixels)
            made[name] = weights
        return made[name]

    return by_name


@torch.no_grad()
def _eager_weights(name: str, module: nn.Module, pixels: Tensor) -> list[Tensor]:
    with torch.random.fork_rng():
        eager = {"ViT": vit, "DINOv3": dinov3}[name]("eager").double().eval()
    eager.load_state_dict(module.state_dict())
    return [layer[0] for layer in eager(pixel_values=pixels, output_attentions=True).attentions]


@torch.no_grad()
def _timm_weights(module: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Input of ``attn_drop``, where timm's attention passes its weights if not fused."""
    plain, found = copy.deepcopy(module), []
    for block in plain.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0][0]))
    plain(pixels)
    return found
