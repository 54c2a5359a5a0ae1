"""Models of timm, with fused attention on and off."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .case import Case, refuse_up_to
from .transformers_shared import peaky

Settings = dict[str, Any]

PLAIN: Settings = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}
WIDE: Settings = PLAIN | {"img_size": (32, 48)}
SWIN: Settings = {
    "img_size": (32, 48), "patch_size": 4, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4),
    "num_classes": 0,
}  # fmt: skip
SEEN = {"fused": ("sdpa",), "unfused": ("eager",)}


def cases(
    target: str,
    model: str | Callable[..., nn.Module],
    settings: Settings,
    size: tuple[int, int] = (32, 32),
    own: Callable[[nn.Module, dict[str, Any]], list[Tensor]] | None = None,
    *,
    variants: tuple[str, ...] = ("fused", "unfused"),
    kinds: dict[str, tuple[str, ...]] | None = None,
    std: float = 0.3,
    **more: Any,
) -> list[Case]:
    """One case with fused attention, one without; models that have no switch get only the latter."""
    return [
        Case(
            "timm",
            target,
            variant,
            lambda variant=variant: built(model, settings, variant == "fused", std),
            lambda: {"x": torch.randn(2, 3, *size)},
            (SEEN | (kinds or {}))[variant],
            own,
            **more,
        )
        for variant in variants
    ]


def swin_v2(**settings: Any) -> nn.Module:
    """Swin V2, as far as timm runs it on pictures that are not square."""
    import timm

    refuse_up_to("timm", "1.0.3", "pictures that are not square fail inside of it")
    return timm.create_model("swinv2_tiny_window8_256", pretrained=False, **settings)


def built(model: str | Callable[..., nn.Module], settings: Settings, fused: bool, std: float) -> nn.Module:
    """A model of timm, by its name or from its class, made small.

    Raises:
        AttributeError: timm has no model of that name.
    """
    import timm

    if callable(model):
        made = model(**settings)
    elif timm.is_model(model):
        made = timm.create_model(model, pretrained=False, **settings)
    else:
        raise AttributeError(model)
    switches = switched(peaky(made, std), fused)
    assert switches or not fused, f"{model} has no switch for fused attention"
    return made


def volo(**settings: Any) -> nn.Module:
    from timm.models.volo import VOLO

    return VOLO(**settings)


def switched(model: nn.Module, fused: bool) -> int:
    """Set the switch of every module that has one; how many there are."""
    modules = [module for module in model.modules() if hasattr(module, "fused_attn")]
    for module in modules:
        module.fused_attn = fused
    return len(modules)


def dropped(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """What the attention dropout of the same model without fused attention is given: the weights."""
    unfused, found = copy.deepcopy(model), list[Tensor]()
    switched(unfused, False)
    for name, module in unfused.named_modules():
        if name.endswith("attn_drop"):
            module.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    unfused(**inputs)
    return found


CASES: list[Case] = [
    *cases("ViT", "vit_small_patch16_224", WIDE, (32, 48), dropped),
    *cases("ViT, registers", "vit_base_patch16_reg4_gap_256", PLAIN, own=dropped),
    *cases("DINOv2, registers", "vit_small_patch14_reg4_dinov2", PLAIN, own=dropped),
    *cases("DINOv3", "vit_small_patch16_dinov3", WIDE, (32, 48), dropped, note="rotary"),
    *cases("EVA-02", "eva02_tiny_patch14_224", PLAIN, own=dropped, note="rotary"),
    *cases("BEiT", "beit_base_patch16_224", PLAIN, own=dropped, note="relative position bias"),
    *cases(
        "SAM image encoder",
        "samvit_base_patch16",
        PLAIN | {"img_size": 64, "window_size": 3, "global_attn_indexes": (1,), "neck_chans": 16},
        (64, 64),
        dropped,
        note="decomposed relative positions; windows; heads and batch are one dimension",
    ),
    *cases(
        "Hiera",
        "hiera_tiny_224",
        {"img_size": (64, 64), "embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1), "num_classes": 0},
        (64, 64),
        note="pooled queries; mask units",
    ),
    *cases(
        "MaxViT",
        "maxvit_pico_rw_256",
        {"img_size": 64, "embed_dim": (32, 64), "depths": (1, 1), "block_type": ("M",) * 2, "num_classes": 0},
        (64, 64),
        dropped,
        std=0.1,
        note="blocks and grids; relative position bias",
    ),
    *cases(
        "LeViT",
        "levit_128s",
        {
            "img_size": 64,
            "embed_dim": (32, 48, 64),
            "key_dim": 16,
            "num_heads": (2, 3, 4),
            "depth": (1, 1, 1),
            "num_classes": 0,
        },
        (64, 64),
        variants=("unfused",),
        std=0.2,
        note="fewer queries than keys where it shrinks; relative position bias",
    ),
    *cases(
        "PVTv2",
        "pvt_v2_b0",
        {"depths": (1, 1, 1, 1), "embed_dims": (16, 16, 16, 16), "num_heads": (1, 2, 2, 4), "num_classes": 0},
        (64, 64),
        dropped,
        note="fewer keys than queries",
    ),
    *cases(
        "CaiT",
        "cait_xxs24_224",
        PLAIN,
        kinds={"fused": ("sdpa", "weights"), "unfused": ("eager", "weights")},
        note="talking heads: the softmax alone, before the heads are mixed once more; class attention",
    ),
    *cases(
        "VOLO",
        volo,
        {
            "layers": (1, 1, 0, 0),
            "img_size": 64,
            "embed_dims": (32, 32, 32, 32),
            "num_heads": (4,) * 4,
            "stem_hidden_dim": 16,
            "num_classes": 0,
            "use_aux_head": False,
        },
        (64, 64),
        kinds={"fused": ("eager", "sdpa", "weights"), "unfused": ("eager", "weights")},
        note="outlook attention: weights of the 9 × 9 of every neighbourhood, made without queries and keys",
    ),
    *cases(
        "Swin",
        "swin_tiny_patch4_window7_224",
        SWIN,
        (32, 48),
        dropped,
        std=0.15,
        note="windows; relative position bias; shifted windows are masked",
    ),
    *cases(
        "Swin V2",
        swin_v2,
        SWIN,
        (32, 48),
        dropped,
        variants=("unfused",),
        note="cosine attention, one scale a head; windows",
    ),
    *cases(
        "XCiT",
        "xcit_nano_12_p16_224",
        PLAIN,
        own=dropped,
        note="attention over channels looks like attention over tokens: rows are channels, not tokens; class attention",
    ),
]
