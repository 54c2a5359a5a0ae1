"""Denoisers and an autoencoder of diffusers, on latents that are not square."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .case import Case, refuse_up_to
from .transformers_shared import peaky

Inputs = Callable[[], dict[str, Any]]
Own = Callable[[nn.Module, dict[str, Any]], list[Tensor]]

TEXT = 7  # tokens of text
LATENTS = (2, 4, 8, 12)
MMDIT: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 16}
FLUX: dict[str, Any] = MMDIT | {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1}
DIT: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "norm_num_groups": 4,
    "sample_size": 8, "patch_size": 2,
}  # fmt: skip
UNET: dict[str, Any] = {
    "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 8, "in_channels": 4, "out_channels": 4,
    "cross_attention_dim": 16, "norm_num_groups": 4, "attention_head_dim": 4,
}  # fmt: skip
SD15: dict[str, Any] = UNET | {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
SDXL: dict[str, Any] = UNET | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8, "transformer_layers_per_block": (1, 2), "projection_class_embeddings_input_dim": 64,
}  # fmt: skip


def case(
    target: str,
    model: str,
    config: dict[str, Any],
    inputs: Inputs,
    variant: str = "sdpa",
    own: Own | None = None,
    *,
    by_hand: bool = False,
    std: float = 0.3,
    broken: tuple[str, str] | None = None,
    **more: Any,
) -> Case:
    """One model; ``by_hand`` writes the softmax out; ``broken`` names the last version that fails, and why."""

    def build() -> nn.Module:
        import diffusers

        if broken is not None:
            refuse_up_to("diffusers", *broken)

        made = peaky(getattr(diffusers, model)(**config), std)
        return written_out(made) if by_hand else made

    return Case("diffusers", target, variant, build, inputs, ("eager" if by_hand else "sdpa",), own, **more)


def written_out(model: nn.Module) -> nn.Module:
    """The model with the processor that was there before PyTorch had a fused call."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    return model


def scored(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """What ``Attention.get_attention_scores`` returns with that processor: (batch · heads, queries, keys)."""
    twin, found = written_out(copy.deepcopy(model)), list[Tensor]()
    for module in twin.modules():
        if hasattr(module, "get_attention_scores"):
            compute = module.get_attention_scores

            def heard(*args: Any, compute: Callable[..., Tensor] = compute, **kwargs: Any) -> Tensor:
                found.append(compute(*args, **kwargs))
                return found[-1]

            module.get_attention_scores = heard
    twin(**inputs)
    return found


def text(width: int = 16, length: int = TEXT, batch: int = 2) -> Tensor:
    """Embedded words."""
    return torch.randn(batch, length, width)


def kept(length: int = TEXT, dtype: torch.dtype = torch.bool) -> Tensor:
    """A mask of two texts, the second of them padded."""
    mask = torch.ones(2, length, dtype=dtype)
    mask[1, 4:] = 0
    return mask


def ids(*axes: int) -> Tensor:
    """Coordinates of every place of a grid, one row a place."""
    return torch.cartesian_prod(*(torch.arange(float(n)) for n in axes))


def unet() -> dict[str, Any]:
    return {"sample": torch.randn(LATENTS), "timestep": torch.tensor(500), "encoder_hidden_states": text()}


def sdxl() -> dict[str, Any]:
    conditions = {"text_embeds": torch.randn(2, 16), "time_ids": torch.randn(2, 6)}
    return unet() | {"added_cond_kwargs": conditions}


def sd3() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "encoder_hidden_states": text(),
        "pooled_projections": torch.randn(2, 16), "timestep": torch.tensor([500, 500]),
    }  # fmt: skip


def flux() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 24, 4), "encoder_hidden_states": text(),
        "pooled_projections": torch.randn(2, 16), "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": ids(1, 4, 6), "txt_ids": torch.zeros(TEXT, 3),
    }  # fmt: skip


def flux2() -> dict[str, Any]:
    words = torch.zeros(TEXT, 4)
    words[:, 3] = torch.arange(TEXT)
    return {
        "hidden_states": torch.randn(2, 24, 4), "encoder_hidden_states": text(), "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": ids(1, 4, 6, 1), "txt_ids": words, "guidance": torch.tensor([4.0, 4.0]),
    }  # fmt: skip


def chroma() -> dict[str, Any]:
    given = flux()
    del given["pooled_projections"]
    return given | {"attention_mask": torch.cat([kept(), torch.ones(2, 24, dtype=torch.bool)], 1)}


def dit() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "timestep": torch.tensor([500, 500]),
        "class_labels": torch.tensor([3, 10]),
    }  # fmt: skip


def pixart() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "encoder_hidden_states": text(), "timestep": torch.tensor([500, 500]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "encoder_attention_mask": kept(),
    }  # fmt: skip


def qwen() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 24, 16), "encoder_hidden_states": text(), "timestep": torch.tensor([0.5, 0.5]),
        "encoder_hidden_states_mask": kept(), "img_shapes": [[(1, 4, 6)]] * 2,
    }  # fmt: skip


def wan() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 4, 2, 8, 12), "encoder_hidden_states": text(),
        "timestep": torch.tensor([500, 500]),
    }  # fmt: skip


def cogvideox() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 2, 4, 8, 12), "encoder_hidden_states": text(),
        "timestep": torch.tensor([500, 500]),
    }  # fmt: skip


def lumina2() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "encoder_hidden_states": text(), "timestep": torch.tensor([0.5, 0.5]),
        "encoder_attention_mask": kept(),
    }  # fmt: skip


def auraflow() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "encoder_hidden_states": text(), "timestep": torch.tensor([0.5, 0.5]),
    }  # fmt: skip


def mochi() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 4, 2, 8, 12), "encoder_hidden_states": text(),
        "timestep": torch.tensor([500, 500]), "encoder_attention_mask": kept(),
    }  # fmt: skip


def z_image() -> dict[str, Any]:
    return {
        "x": [torch.randn(4, 1, 8, 12), torch.randn(4, 1, 8, 12)], "t": torch.tensor([0.5, 0.5]),
        "cap_feats": [torch.randn(TEXT, 16), torch.randn(4, 16)],
    }  # fmt: skip


def sana() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(LATENTS), "encoder_hidden_states": text(), "timestep": torch.tensor([500, 500]),
        "encoder_attention_mask": kept(),
    }  # fmt: skip


VAE: dict[str, Any] = {
    "block_out_channels": (16, 32), "norm_num_groups": 4, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
SD3: dict[str, Any] = MMDIT | {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "caption_projection_dim": 32,
    "pooled_projection_dim": 16, "pos_embed_max_size": 12,
}  # fmt: skip
PIXART: dict[str, Any] = DIT | {"cross_attention_dim": 32, "caption_channels": 16, "out_channels": 8}
WAN: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
    "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32,
}  # fmt: skip
SANA: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2,
    "num_cross_attention_heads": 4, "cross_attention_head_dim": 8, "cross_attention_dim": 32, "caption_channels": 16,
    "sample_size": 8,
}  # fmt: skip

CASES: list[Case] = [
    *(
        case(
            target,
            "UNet2DConditionModel",
            config,
            inputs,
            variant,
            scored,
            by_hand=variant == "eager",
            note=note,
            std=0.2,
        )
        for target, config, inputs in (("SD1.5 UNet", SD15, unet), ("SDXL UNet", SDXL, sdxl))
        for variant, note in (("sdpa", "self- and cross-attention"), ("eager", "the processor written by hand"))
    ),
    case("Stable Diffusion 3", "SD3Transformer2DModel", SD3, sd3, note="image and text attend together"),
    case(
        "Stable Diffusion 3.5",
        "SD3Transformer2DModel",
        SD3 | {"dual_attention_layers": (0,), "qk_norm": "rms_norm"},
        sd3,
        records=3,
        since="0.31.0",
        note="a second attention of the image alone",
    ),
    case(
        "FLUX",
        "FluxTransformer2DModel",
        FLUX | {"pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)},
        flux,
        broken=("0.30.0", "its position ids have a dimension for the batch"),
        note="text, then image; rotary",
    ),
    case(
        "FLUX.2",
        "Flux2Transformer2DModel",
        FLUX | {"axes_dims_rope": (2, 2, 2, 2), "timestep_guidance_channels": 16},
        flux2,
        note="text, then image; rotary",
    ),
    case(
        "Chroma",
        "ChromaTransformer2DModel",
        FLUX
        | {
            "axes_dims_rope": (2, 2, 4),
            "approximator_num_channels": 16,
            "approximator_hidden_dim": 16,
            "approximator_layers": 1,
        },
        chroma,
        "sdpa, padded",
    ),
    *(
        case(
            "DiT",
            "DiTTransformer2DModel",
            DIT | {"num_embeds_ada_norm": 10},
            dit,
            variant,
            scored,
            by_hand=by_hand,
            std=0.15,
        )
        for variant, by_hand in (("sdpa", False), ("eager", True))
    ),
    *(
        case(
            "PixArt-α",
            "PixArtTransformer2DModel",
            PIXART,
            pixart,
            f"{variant}, padded",
            scored,
            by_hand=variant == "eager",
            note="self- and cross-attention",
            std=0.15,
        )
        for variant in ("sdpa", "eager")
    ),
    case(
        "Qwen-Image",
        "QwenImageTransformer2DModel",
        MMDIT | {"patch_size": 2, "in_channels": 16, "out_channels": 4, "axes_dims_rope": (2, 2, 4)},
        qwen,
        "sdpa, padded",
        note="text, then image; rotary",
    ),
    case("Wan", "WanTransformer3DModel", WAN, wan, note="video; self- and cross-attention; rotary"),
    case(
        "CogVideoX",
        "CogVideoXTransformer3DModel",
        {
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 8,
            "text_embed_dim": 16,
            "num_layers": 2,
            "sample_width": 12,
            "sample_height": 8,
            "sample_frames": 5,
            "patch_size": 2,
            "max_text_seq_length": TEXT,
        },
        cogvideox,
        note="video; text, then frames",
    ),
    case(
        "Lumina 2",
        "Lumina2Transformer2DModel",
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 32,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "multiple_of": 8,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (32, 32, 32),
            "cap_feat_dim": 16,
        },
        lumina2,
        "sdpa, padded, GQA",
        note="refiners of text and image, then both together; rotary",
    ),
    case(
        "AuraFlow",
        "AuraFlowTransformer2DModel",
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "joint_attention_dim": 16,
            "caption_projection_dim": 32,
            "pos_embed_max_size": 64,
        },
        auraflow,
        broken=("0.30.0", "latents that are not square fail inside of it"),
        note="registers and text, then image",
    ),
    case(
        "Mochi",
        "MochiTransformer3DModel",
        {
            "patch_size": 2,
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 8,
            "max_sequence_length": TEXT,
        },
        mochi,
        "sdpa, padded",
        note="video; each sample of the batch has a call of its own",
    ),
    case(
        "Z-Image",
        "ZImageTransformer2DModel",
        {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 4,
            "n_kv_heads": 4,
            "cap_feat_dim": 16,
            "axes_dims": [4, 2, 2],
            "axes_lens": [128, 32, 32],
        },
        z_image,
        "sdpa, padded",
        note="image, then text; rotary",
    ),
    case(
        "Sana",
        "SanaTransformer2DModel",
        SANA,
        sana,
        "sdpa, padded",
        std=0.15,
        records=2,
        note="cross-attention alone: self-attention is linear, there is no softmax",
    ),
    *(
        case(
            "VAE", "AutoencoderKL", VAE, lambda: {"sample": torch.randn(2, 3, 16, 24)}, variant, scored, by_hand=by_hand
        )
        for variant, by_hand in (("sdpa", False), ("eager", True))
    ),
]
