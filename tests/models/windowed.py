"""Tiny models with windowed attention, of each library's own classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

timm = pytest.importorskip("timm")
vision = pytest.importorskip("torchvision.models")

SWIN = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "patch_size": 2}
SAM = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 48}


def large_enough(model: nn.Module) -> nn.Module:
    """Initial weights are so small that all attention is uniform: make it peaky, so that mistakes show."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=1.0)
    return model.eval()


def hf_swin(size: int = 64, attention: str = "sdpa", **changes: Any) -> nn.Module:
    return tf.SwinModel(tf.SwinConfig(**{**SWIN, "image_size": size, **changes}, attn_implementation=attention))


def hf_swin_v2(size: int = 64) -> nn.Module:
    return tf.Swinv2Model(tf.Swinv2Config(**SWIN, image_size=size))


def hf_sam(attention: str = "sdpa") -> nn.Module:
    config = tf.SamVisionConfig(
        **SAM, window_size=4, global_attn_indexes=[1], output_channels=8, mlp_dim=16, attn_implementation=attention
    )
    return tf.SamVisionModel(config)


def hf_vitdet(**changes: Any) -> nn.Module:
    return tf.VitDetModel(tf.VitDetConfig(**SAM, window_size=4, window_block_indices=[0], **changes))


def hf_sam2() -> nn.Module:
    backbone = tf.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[2, 2, 3, 2],
        embed_dim_per_stage=[8, 16, 24, 40], num_attention_heads_per_stage=[1, 2, 3, 5], global_attention_blocks=[5],
        window_size_per_stage=[4, 2, 2, 2], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    config = tf.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=[40, 24, 16, 8], fpn_hidden_size=8)
    return tf.Sam2VisionModel(config)


def timm_swin(name: str, size: tuple[int, int], **changes: Any) -> nn.Module:
    module = getattr(timm.models, {"SwinTransformer": "swin_transformer", "SwinTransformerV2": "swin_transformer_v2",
                                   "SwinTransformerV2Cr": "swin_transformer_v2_cr"}[name])  # fmt: skip
    settings = {**SWIN, "depths": (2, 2), "num_heads": (2, 2), "img_size": size, "num_classes": 0}
    return getattr(module, name)(**{**settings, **changes})


def timm_sam() -> nn.Module:
    return timm.models.vision_transformer_sam.VisionTransformerSAM(
        img_size=48, patch_size=8, embed_dim=16, depth=2, num_heads=2, window_size=4, global_attn_indexes=(1,),
        use_rel_pos=True, neck_chans=8, num_classes=0,
    )  # fmt: skip


def torchvision_swin(**changes: Any) -> nn.Module:
    settings = {**SWIN, "patch_size": [2, 2], "window_size": [4, 4], "num_classes": 2}
    return vision.swin_transformer.SwinTransformer(**{**settings, **changes})


def torchvision_maxvit() -> nn.Module:
    return vision.MaxVit(
        input_size=(64, 64), stem_channels=8, partition_size=4, block_channels=[8, 8], block_layers=[1, 1], head_dim=4,
        stochastic_depth_prob=0.0,
    )  # fmt: skip


def small_maxvit(**changes: Any) -> Any:
    module = timm.models.maxxvit
    transformer = module.MaxxVitTransformerCfg(dim_head=4, partition_ratio=32, rel_pos_type="bias")
    settings = {"embed_dim": (8, 8), "depths": (1, 1), "block_type": ("M", "M"), "stem_width": 8}
    return module.MaxxVitCfg(**{**settings, "transformer_cfg": transformer, **changes})


def timm_maxvit() -> nn.Module:
    return timm.models.maxxvit.MaxxVit(small_maxvit(), img_size=64, num_classes=0)
