"""Pipelines of diffusers, tiny, made here with random weights and a tokenizer of a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers as hf
from torch import nn

from tests.conformance.diffusers_models import DIT, FLUX, MMDIT, SD3, SD15, SDXL, VAE, WAN

WORDS = ("a", "cat", "dog", "blurry")
PROMPT, NEGATIVE = "a cat", "blurry dog"
WIDTH, HEIGHT = 24, 16  # of the picture: not square


def made(name: str, **config: Any) -> nn.Module:
    """A module of diffusers in evaluation, with the same weights every time."""
    torch.manual_seed(0)
    module: nn.Module = getattr(diffusers, name)(**config).eval()
    return module


def tokenizer(folder: Path) -> Any:
    """CLIP's, which knows letters and the words above."""
    letters = sorted(set("".join(WORDS)))
    pieces = letters + [letter + "</w>" for letter in letters]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.append(parts[0])
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
    return hf.CLIPTokenizer.from_pretrained(folder, model_max_length=8)


def clip(words: Any, projected: bool = False) -> Any:
    """A text encoder of 16 channels for the tokenizer ``words``."""
    torch.manual_seed(0)
    config = hf.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=8, projection_dim=16, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    )  # fmt: skip
    return (hf.CLIPTextModelWithProjection if projected else hf.CLIPTextModel)(config).eval()


def autoencoder(**more: Any) -> nn.Module:
    return made("AutoencoderKL", **VAE | more)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion(folder: Path) -> Any:
    words = tokenizer(folder)
    return quiet(
        diffusers.StableDiffusionPipeline(
            vae=autoencoder(),
            text_encoder=clip(words),
            tokenizer=words,
            unet=made("UNet2DConditionModel", **SD15),
            scheduler=diffusers.DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_xl(folder: Path) -> Any:
    words = tokenizer(folder)
    unet = made(
        "UNet2DConditionModel", **SDXL | {"cross_attention_dim": 32, "projection_class_embeddings_input_dim": 64}
    )
    return quiet(
        diffusers.StableDiffusionXLPipeline(
            vae=autoencoder(),
            text_encoder=clip(words),
            tokenizer=words,
            text_encoder_2=clip(words, True),
            tokenizer_2=words,
            unet=unet,
            scheduler=diffusers.EulerDiscreteScheduler(),
            add_watermarker=False,
        )
    )


def stable_diffusion_3(folder: Path) -> Any:
    """Without its third text encoder, as the pipeline allows."""
    words = tokenizer(folder)
    denoiser = made("SD3Transformer2DModel", **SD3 | {"joint_attention_dim": 32, "pooled_projection_dim": 32})
    return quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer=denoiser,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.0, scaling_factor=1.0),
            text_encoder=clip(words, True),
            tokenizer=words,
            text_encoder_2=clip(words, True),
            tokenizer_2=words,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    )


def flux() -> Any:
    """Takes embedded prompts: it has no text encoders."""
    denoiser = made(
        "FluxTransformer2DModel", **FLUX | {"in_channels": 16, "pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)}
    )
    return quiet(
        diffusers.FluxPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.0, scaling_factor=1.0),
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            transformer=denoiser,
        )
    )


def wan() -> Any:
    """The same, of video."""
    vae = made("AutoencoderKLWan", base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
               latents_mean=[0.0] * 4, latents_std=[1.0] * 4)  # fmt: skip
    return quiet(
        diffusers.WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            transformer=made("WanTransformer3DModel", **WAN),
        )
    )


def qwen_image() -> Any:
    """Takes embedded prompts, too."""
    vae = made("AutoencoderKLQwenImage", base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
               latents_mean=[0.0] * 4, latents_std=[1.0] * 4)  # fmt: skip
    denoiser = made(
        "QwenImageTransformer2DModel",
        **MMDIT | {"patch_size": 2, "in_channels": 16, "out_channels": 4, "axes_dims_rope": (2, 2, 4)},
    )
    return quiet(
        diffusers.QwenImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            text_encoder=None,
            tokenizer=None,
            transformer=denoiser,
        )
    )


def dit() -> Any:
    """Its pipeline says "no class" by the label 1000."""
    return quiet(
        diffusers.DiTPipeline(
            transformer=made("DiTTransformer2DModel", **DIT | {"num_embeds_ada_norm": 1000, "out_channels": 8}),
            vae=autoencoder(),
            scheduler=diffusers.DDIMScheduler(),
        )
    )


def z_image() -> Any:
    denoiser = made(
        "ZImageTransformer2DModel", in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=4, n_kv_heads=4,
        cap_feat_dim=16, axes_dims=[4, 2, 2], axes_lens=[128, 32, 32],
    )  # fmt: skip
    return quiet(
        diffusers.ZImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.0, scaling_factor=1.0),
            text_encoder=None,
            tokenizer=None,
            transformer=denoiser,
        )
    )
