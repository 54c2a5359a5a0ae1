"""Layouts of real vision transformers at non-square sizes, checked against where a patch really went."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from tokenrank.layout import Point, TokenLayout
from tokenrank.models import expected_layout, find_layout
from tokenrank.models.layouts.towers import Structure, find_tower
from tokenrank.recording import Evidence

from .cases import PICTURE, TINY, Seen

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}
DYNAMIC = {**SMALL, "dynamic_img_size": True}
CLS = {"cls": 1}


def timm_class(module: str, name: str) -> Any:
    return getattr(pytest.importorskip(f"timm.models.{module}"), name)


def timm_vit(**extra: Any) -> Callable[[], nn.Module]:
    return lambda: timm_class("vision_transformer", "VisionTransformer")(**DYNAMIC, **extra)


def timm_naflex() -> nn.Module:
    config = timm_class("naflexvit", "NaFlexVitCfg")(patch_size=8, embed_dim=32, depth=2, num_heads=4, reg_tokens=2)
    return timm_class("naflexvit", "NaFlexVit")(config)


def hf(name: str, **extra: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = getattr(tf, f"{name}Model")(getattr(tf, f"{name}Config")(**TINY, **PICTURE, **extra))
        for parameter in model.parameters():  # some start at zero, which would hide where a patch goes
            nn.init.normal_(parameter, std=0.2)
        return model

    return build


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "ViT": (hf("ViT"), CLS),
    "DeiT": (hf("DeiT"), {"cls": 1, "distillation": 1}),
    "BEiT": (hf("Beit", use_relative_position_bias=True), CLS),
    "Data2Vec": (hf("Data2VecVision", use_relative_position_bias=True), CLS),
    "DINOv2": (hf("Dinov2"), CLS),
    "DINOv2 with registers": (hf("Dinov2WithRegisters", num_register_tokens=3), {"cls": 1, "registers": 3}),
    "DINOv3": (hf("DINOv3ViT", num_register_tokens=4), {"cls": 1, "registers": 4}),
    "DINOv3 without registers": (hf("DINOv3ViT", num_register_tokens=0), CLS),
    "CLIP": (hf("CLIPVision"), CLS),
    "SigLIP": (hf("SiglipVision"), {}),
    "I-JEPA": (hf("IJepa"), {}),
    "timm ViT": (timm_vit(), CLS),
    "timm ViT with registers": (timm_vit(reg_tokens=4), {"cls": 1, "registers": 4}),
    "timm ViT, no_embed_class": (timm_vit(reg_tokens=2, no_embed_class=True), {"cls": 1, "registers": 2}),
    "timm ViT without class token": (timm_vit(class_token=False, global_pool="avg"), {}),
    "timm ViT, registers alone": (timm_vit(class_token=False, reg_tokens=4, global_pool="avg"), {"registers": 4}),
    "timm DeiT": (
        lambda: timm_class("deit", "VisionTransformerDistilled")(**DYNAMIC),
        {"cls": 1, "distillation": 1},
    ),
    "timm EVA": (
        lambda: timm_class("eva", "Eva")(**DYNAMIC, num_reg_tokens=4, use_rot_pos_emb=True),
        {"cls": 1, "registers": 4},
    ),
    "timm NaFlexViT": (timm_naflex, {"registers": 2}),
}


def forward_inputs(model: nn.Module, pixels: torch.Tensor) -> dict[str, Any]:
    names = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {"pixel_values" if "pixel_values" in names else next(iter(names)): pixels}
    if "interpolate_pos_encoding" in names:
        inputs["interpolate_pos_encoding"] = True
    return inputs


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (48, 24), (8, 40)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_each_patch_is_where_the_layout_says(
    name: str, size: tuple[int, int], watch: Callable[..., Seen], bound: Callable[..., dict[str, Any]]
) -> None:
    build, before = MODELS[name]
    model = build().eval()
    rows, columns = size[0] // 8, size[1] // 8
    pixels = torch.randn(1, 3, *size)
    seen = watch(model, **forward_inputs(model, pixels))
    inputs = bound(**forward_inputs(model, pixels))
    layout = find_layout(model, seen.num_tokens, Evidence(inputs, seen.grids))

    assert layout is not None
    assert layout == TokenLayout({**before, "image": rows * columns}, {"image": (rows, columns)})
    assert expected_layout(model, inputs) == layout

    # Change one patch: before any mixing, in the first layer's queries, one token changes.
    row, column = rows - 1, columns // 2
    changed = pixels.clone()
    changed[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += torch.randn(8, 8)
    difference = watch(model, **forward_inputs(model, changed)).queries[0] - seen.queries[0]
    moved = difference.abs().amax((0, 1, 3)).nonzero().flatten().tolist()
    assert moved == [layout.token_at(Point((column + 0.5) / columns, (row + 0.5) / rows))]


def test_a_fixed_size_timm_beit(watch: Callable[..., Seen], bound: Callable[..., dict[str, Any]]) -> None:
    model = timm_class("beit", "Beit")(**{**SMALL, "img_size": (32, 48)}, use_rel_pos_bias=True).eval()
    seen = watch(model, x=torch.randn(2, 3, 32, 48))
    layout = find_layout(model, seen.num_tokens, Evidence(bound(x=torch.randn(2, 3, 32, 48)), seen.grids))
    assert layout == TokenLayout.image(4, 6)


def test_relative_positions_over_the_whole_picture_are_no_windows(watch: Callable[..., Seen]) -> None:
    options = {**SMALL, "img_size": (32, 48), "class_token": False, "global_pool": "avg"}
    model = timm_class("vision_transformer_relpos", "VisionTransformerRelPos")(**options).eval()
    seen = watch(model, x=torch.randn(1, 3, 32, 48))
    assert find_layout(model, seen.num_tokens, Evidence({}, seen.grids)) == TokenLayout.image(4, 6, cls_tokens=0)


def test_detection_tokens_come_last(watch: Callable[..., Seen]) -> None:
    config = tf.YolosConfig(**TINY, image_size=[32, 48], patch_size=8, num_detection_tokens=7)
    model = tf.YolosModel(config).eval()
    seen = watch(model, pixel_values=torch.randn(1, 3, 32, 48))
    layout = find_layout(model, seen.num_tokens, Evidence({}, seen.grids))
    assert layout == TokenLayout({"cls": 1, "image": 24, "detection": 7}, {"image": (4, 6)})


def test_torchvision(watch: Callable[..., Seen]) -> None:
    vision = pytest.importorskip("torchvision.models")
    model = vision.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=3).eval()
    grids = watch(model, x=torch.randn(1, 3, 32, 32)).grids
    assert find_layout(model, 17, Evidence({}, grids)) == TokenLayout.image(4, 4)


def test_without_a_measured_grid_sizes_say_it(bound: Callable[..., dict[str, Any]]) -> None:
    model = hf("DINOv3ViT", num_register_tokens=4)()
    layout = find_layout(model, 29, Evidence(bound(pixel_values=torch.zeros(1, 3, 32, 48))))
    assert layout == TokenLayout.image(4, 6, registers=4)


def test_later_heads_do_not_mislead() -> None:
    model = hf("ViT")()
    grids = [(4, 6), (2, 3), (8, 12), (4, 5)]  # a decoder's maps after the patches
    assert find_layout(model, 25, Evidence({}, grids)) == TokenLayout.image(4, 6)


class Eyes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.attention = nn.Identity()


class Ears(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens, self.attention = nn.Embedding(2, 4), nn.Identity()


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config, self.attention = tf.CLIPVisionConfig(), nn.Identity()


@pytest.mark.parametrize(("part", "tower"), [(Eyes, "vision"), (Ears, "text"), (Configured, "vision")])
def test_towers_are_told_apart_compiled_or_not(part: type[nn.Module], tower: str) -> None:
    for inner in (part(), torch.compile(part())):
        model = nn.ModuleDict({"tower": inner, "other": nn.Identity()})
        for root in (model, torch.compile(model)):
            assert find_tower(Structure(root), "tower.attention") == tower
            assert find_tower(Structure(root), "other") is None
