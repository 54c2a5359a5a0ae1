"""Vision models of transformers."""

from __future__ import annotations

from typing import Any

import torch

from .case import Case
from .transformers_shared import IMAGE, SIZES, cases, encoder_decoder, pixels, reported

ATTENTIONS = reported("attentions")
STAGES = {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 16, "image_size": 32}


def patches() -> dict[str, Any]:
    """SigLIP2's input: patches in a row, with padding, and the grid of each picture."""
    mask = torch.ones(2, 16, dtype=torch.int32)
    mask[1, 12:] = 0
    shapes = torch.tensor([[4, 4], [3, 4]])
    return {"pixel_values": torch.randn(2, 16, 192), "pixel_attention_mask": mask, "spatial_shapes": shapes}


def detr(hf: Any) -> Any:
    backbone = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"], layer_type="basic"
    )
    return hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=32,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, num_queries=5,
    )  # fmt: skip


def sam_vision(hf: Any) -> Any:
    return hf.SamVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_dim=48, image_size=64, patch_size=8,
        window_size=4, global_attn_indexes=[1], output_channels=8,
    )  # fmt: skip


def hiera(hf: Any) -> Any:
    return hf.HieraConfig(
        embed_dim=16, image_size=[64, 64], depths=[1, 1], num_heads=[1, 2], query_stride=[2, 2], num_query_pool=1,
        masked_unit_size=[4, 4], masked_unit_attention=[True, False],
    )  # fmt: skip


def segformer(hf: Any) -> Any:
    return hf.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
    )  # fmt: skip


def vit_det(hf: Any) -> Any:
    return hf.VitDetConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=64, pretrain_image_size=64,
        patch_size=8, window_size=4, window_block_indices=[0], use_relative_position_embeddings=True,
    )  # fmt: skip


CASES: list[Case] = [
    *cases("ViT", "ViTModel", lambda hf: hf.ViTConfig(**IMAGE), pixels(), ATTENTIONS),
    *cases("DeiT", "DeiTModel", lambda hf: hf.DeiTConfig(**IMAGE), pixels(), ATTENTIONS),
    *cases("ViT-MAE", "ViTMAEModel", lambda hf: hf.ViTMAEConfig(**IMAGE), pixels(), None, note="random masking"),
    *cases("DINOv2", "Dinov2Model", lambda hf: hf.Dinov2Config(**IMAGE), pixels(), ATTENTIONS),
    *cases(
        "DINOv2 with registers",
        "Dinov2WithRegistersModel",
        lambda hf: hf.Dinov2WithRegistersConfig(**IMAGE, num_register_tokens=3),
        pixels(),
        ATTENTIONS,
    ),
    *cases(
        "DINOv3",
        "DINOv3ViTModel",
        lambda hf: hf.DINOv3ViTConfig(**IMAGE, num_register_tokens=4),
        pixels(2, 3, 32, 48),
        ATTENTIONS,
        since="4.56",
        note="rotary; not square picture",
    ),
    *cases("CLIP vision", "CLIPVisionModel", lambda hf: hf.CLIPVisionConfig(**IMAGE), pixels(), ATTENTIONS),
    *cases(
        "SigLIP vision",
        "SiglipVisionModel",
        lambda hf: hf.SiglipVisionConfig(**IMAGE, vision_use_head=False),
        pixels(),
        ATTENTIONS,
    ),
    *cases(
        "SigLIP vision, pooling head",
        "SiglipVisionModel",
        lambda hf: hf.SiglipVisionConfig(**IMAGE),
        pixels(),
        None,
        kinds={v: tuple(sorted((v, "multi_head_attention"))) for v in ("eager", "sdpa", "flex")},
        note="the head is nn.MultiheadAttention with one query",
    ),
    *cases(
        "SigLIP2 vision",
        "Siglip2VisionModel",
        lambda hf: hf.Siglip2VisionConfig(**SIZES, patch_size=8, num_patches=16, vision_use_head=False),
        patches,
        ATTENTIONS,
        suffix=", padded",
        since="4.49",
    ),
    *cases(
        "BEiT",
        "BeitModel",
        lambda hf: hf.BeitConfig(**IMAGE, use_relative_position_bias=True),
        pixels(),
        ATTENTIONS,
        note="relative position bias",
    ),
    *cases(
        "Swin",
        "SwinModel",
        lambda hf: hf.SwinConfig(**STAGES, patch_size=4, window_size=4),
        pixels(),
        ATTENTIONS,
        note="a batch of windows, relative position bias",
    ),
    *cases(
        "Swin V2",
        "Swinv2Model",
        lambda hf: hf.Swinv2Config(**STAGES, patch_size=4, window_size=4),
        pixels(),
        ATTENTIONS,
        note="cosine attention, one scale a head",
    ),
    *cases(
        "SAM image encoder",
        "SamVisionModel",
        sam_vision,
        pixels(2, 3, 64, 64),
        ATTENTIONS,
        note="decomposed relative positions; windows",
    ),
    *cases("DETR", "DetrModel", detr, pixels(2, 3, 64, 64), encoder_decoder, note="cross-attention"),
    *cases(
        "TimeSformer",
        "TimesformerModel",
        lambda hf: hf.TimesformerConfig(**IMAGE, num_frames=2),
        pixels(1, 2, 3, 32, 32),
        None,
        note="attention over time and over space",
    ),
    *cases(
        "Hiera",
        "HieraModel",
        hiera,
        pixels(2, 3, 64, 64),
        None,
        note="pooled queries",
    ),
    *cases(
        "Segformer",
        "SegformerModel",
        segformer,
        pixels(2, 3, 32, 32),
        ATTENTIONS,
        note="fewer keys than queries",
    ),
    *cases(
        "ViTDet",
        "VitDetModel",
        vit_det,
        pixels(2, 3, 64, 64),
        ATTENTIONS,
        note="decomposed relative positions; windows",
    ),
]
