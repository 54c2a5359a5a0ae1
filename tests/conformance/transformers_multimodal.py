"""Models of pictures and words of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .case import Case
from .transformers_shared import SIZES, TEXT, cases, twin

VISION = {**SIZES, "image_size": 32, "patch_size": 8}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 8}
IMAGE_TOKEN = 50


def two_towers(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """Weights of the text and of the picture, in the order in which the model runs them."""
    out = twin(model)(**inputs, output_attentions=True)
    return [*out.vision_model_output.attentions, *out.text_model_output.attentions]


def towers_and_language(*towers: Callable[[Any], nn.Module]) -> Any:
    """Weights of a picture's tower, which the output does not have, then of the language model."""

    def own(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
        eager, heard = twin(model), list[Tensor]()
        hooks = [
            layer.register_forward_hook(lambda _, __, out: heard.append(out[1]))
            for tower in towers
            for name, layer in tower(eager).named_modules()
            if name.endswith(("self_attn", "attention"))
        ]
        out = eager(**inputs, output_attentions=True)
        for hook in hooks:
            hook.remove()
        return [*heard, *out.attentions]

    return own


def llava_own(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """The same of LLaVA, whose tower reports its weights only where it is asked."""
    eager = twin(model)
    tower = eager.model.vision_tower(inputs["pixel_values"], output_attentions=True)
    return [*tower.attentions, *eager(**inputs, output_attentions=True).attentions]


def captions(
    count: int = 16, pixels: tuple[int, ...] = (1, 3, 32, 32), types: bool = False
) -> Callable[[], dict[str, Any]]:
    """One picture of ``count`` tokens between words; ``types`` says that all of it is prompt, as a processor does."""

    def inputs() -> dict[str, Any]:
        ids = torch.randint(3, IMAGE_TOKEN, (1, count + 6))
        ids[0, 2 : 2 + count] = IMAGE_TOKEN
        return {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(pixels),
            "use_cache": False, **({"token_type_ids": torch.zeros_like(ids)} if types else {}),
        }  # fmt: skip

    return inputs


def pair(**text: Any) -> Callable[[], dict[str, Any]]:
    """Two texts, one of them padded, and two pictures."""

    def inputs() -> dict[str, Any]:
        ids = torch.randint(3, 60, (2, 7))
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 32, 32), **text}

    return inputs


def grids() -> dict[str, Any]:
    """Patches of one picture of 8 by 12, in a row."""
    return {"hidden_states": torch.randn(96, 3 * 2 * 4 * 4), "grid_thw": torch.tensor([[1, 8, 12]])}


def llava(hf: Any) -> Any:
    return hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION), text_config=hf.LlamaConfig(**GROUPED),
        image_token_index=IMAGE_TOKEN, vision_feature_layer=-1,
    )  # fmt: skip


def paligemma(hf: Any) -> Any:
    return hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**VISION, vision_use_head=False), text_config=hf.GemmaConfig(**GROUPED),
        image_token_index=IMAGE_TOKEN, projection_dim=32, hidden_size=32,
    )  # fmt: skip


def idefics3(hf: Any) -> Any:
    return hf.Idefics3Config(
        vision_config=dict(VISION), text_config=hf.LlamaConfig(**GROUPED), image_token_id=IMAGE_TOKEN, scale_factor=2,
    )  # fmt: skip


def smolvlm(hf: Any) -> Any:
    return hf.SmolVLMConfig(
        vision_config=dict(VISION), text_config=hf.LlamaConfig(**GROUPED), image_token_id=IMAGE_TOKEN, scale_factor=2,
    )  # fmt: skip


def gemma3(hf: Any) -> Any:
    text = hf.Gemma3TextConfig(
        **GROUPED, query_pre_attn_scalar=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    return hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**VISION, vision_use_head=False), text_config=text,
        image_token_index=IMAGE_TOKEN, mm_tokens_per_image=4,
    )  # fmt: skip


def qwen_vision(hf: Any) -> Any:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

    return Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=32, intermediate_size=48, num_heads=4, patch_size=4, spatial_merge_size=2,
        temporal_patch_size=2, window_size=16, out_hidden_size=32, fullatt_block_indexes=[1],
    )  # fmt: skip


def qwen_tower(hf: Any, config: Any) -> nn.Module:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    return Qwen2_5_VisionTransformerPretrainedModel(config)


def blip(hf: Any) -> Any:
    return hf.BlipConfig(text_config=dict(TEXT, max_position_embeddings=16), vision_config=dict(VISION))


# fmt: off
CASES: list[Case] = [
    *cases("CLIP", "CLIPModel",
           lambda hf: hf.CLIPConfig(text_config=dict(TEXT, max_position_embeddings=16), vision_config=dict(VISION)),
           pair(), two_towers, suffix=", padded"),
    *cases("SigLIP", "SiglipModel",
           lambda hf: hf.SiglipConfig(text_config=dict(TEXT, max_position_embeddings=16), vision_config=dict(VISION)),
           pair(), None, suffix=", padded",
           kinds={v: tuple(sorted((v, "multi_head_attention"))) for v in ("eager", "sdpa", "flex")}),
    *cases("BLIP", "BlipModel", blip, pair(), two_towers, suffix=", padded"),
    *cases("LLaVA", "LlavaForConditionalGeneration", llava, captions(), llava_own, suffix=", causal, GQA"),
    *cases("PaliGemma", "PaliGemmaForConditionalGeneration", paligemma, captions(types=True),
           towers_and_language(lambda m: m.model.vision_tower), suffix=", GQA",
           note="the prompt sees itself both ways"),
    *cases("Gemma 3, multimodal", "Gemma3ForConditionalGeneration", gemma3, captions(4),
           towers_and_language(lambda m: m.model.vision_tower), suffix=", causal, GQA", note="sliding window"),
    *cases("Idefics3", "Idefics3ForConditionalGeneration", idefics3, captions(4, (1, 1, 3, 32, 32)),
           towers_and_language(lambda m: m.model.vision_model), suffix=", causal, GQA"),
    *cases("SmolVLM", "SmolVLMForConditionalGeneration", smolvlm, captions(4, (1, 1, 3, 32, 32)),
           towers_and_language(lambda m: m.model.vision_model), suffix=", causal, GQA"),
    *cases("Qwen2.5-VL vision", qwen_tower, qwen_vision, grids, None, records=7,
           note="one record a window: several a layer"),
]
