"""Pipelines of diffusers, tiny, made here with random weights and a tokenizer of a few words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from tests.conformance.diffusers_models import DIT, FLUX, MMDIT, PIXART, SD3, SD15, SDXL, VAE, WAN

from . import text_encoders

WORDS = ("a", "cat", "dog", "blurry")
PROMPT, NEGATIVE = "a cat", "blurry dog"
WIDTH, HEIGHT = 24, 16  # of the picture: not square


def of_diffusers(name: str) -> Any:
    """A class of diffusers; the test is skipped where the installed version does not have it yet."""
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    return getattr(diffusers, name)


def made(name: str, **config: Any) -> nn.Module:
    """A module of diffusers in evaluation, with the same weights every time."""
    torch.manual_seed(0)
    module: nn.Module = of_diffusers(name)(**config).eval()
    return module


def tokenizer(folder: Path) -> Any:
    """CLIP's, to which the words above are one token each."""
    return text_encoders.clip(folder, 8, WORDS)


def autoencoder(**more: Any) -> nn.Module:
    return made("AutoencoderKL", **VAE | more)


Texts = Mapping[str, Any]
"""Tokenizers and text encoders by the names of a pipeline's parts, in place of a builder's own."""


def clips(words: Any, *projected: bool) -> dict[str, Any]:
    """CLIP, once or twice, each with its projection or without."""
    found: dict[str, Any] = {}
    for number, projects in zip(("", "_2"), projected, strict=False):
        found |= {f"tokenizer{number}": words, f"text_encoder{number}": text_encoders.clip_encoder(words, projects)}
    return found


def t5(number: str = "", width: int = 16, length: int = 16) -> dict[str, Any]:
    """T5 of so many channels and tokens."""
    words = text_encoders.t5(length)
    return {f"tokenizer{number}": words, f"text_encoder{number}": text_encoders.t5_encoder(words, width)}


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion(folder: Path, texts: Texts | None = None) -> Any:
    texts = clips(tokenizer(folder), False) if texts is None else texts
    return quiet(
        diffusers.StableDiffusionPipeline(
            **texts,
            vae=autoencoder(),
            unet=made("UNet2DConditionModel", **SD15),
            scheduler=diffusers.DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_xl(folder: Path, texts: Texts | None = None) -> Any:
    texts = clips(tokenizer(folder), False, True) if texts is None else texts
    unet = made(
        "UNet2DConditionModel", **SDXL | {"cross_attention_dim": 32, "projection_class_embeddings_input_dim": 64}
    )
    return quiet(
        diffusers.StableDiffusionXLPipeline(
            **texts,
            vae=autoencoder(),
            unet=unet,
            scheduler=diffusers.EulerDiscreteScheduler(),
            add_watermarker=False,
        )
    )


def stable_diffusion_3(folder: Path, third: bool = False, texts: Texts | None = None, **config: Any) -> Any:
    """Without its third text encoder, as the pipeline allows, or with it; ``config`` is more of the denoiser's."""
    if texts is None:
        last = t5("_3", 32) if third else {"tokenizer_3": None, "text_encoder_3": None}
        texts = clips(tokenizer(folder), True, True) | last
    denoiser = made("SD3Transformer2DModel", **SD3 | {"joint_attention_dim": 32, "pooled_projection_dim": 32} | config)
    return quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer=denoiser,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.1, scaling_factor=0.5),
            **texts,
        )
    )


def stable_diffusion_35(folder: Path) -> Any:
    """Stable Diffusion 3.5: queries and keys normalised, a second self-attention of the picture in the first block."""
    return stable_diffusion_3(folder, True, qk_norm="rms_norm", dual_attention_layers=(0,))


def pixart(kind: str = "Sigma", texts: Texts | None = None) -> Any:
    """PixArt-Σ, or "Alpha"."""
    denoiser = made("PixArtTransformer2DModel", **PIXART | {"sample_size": 8, "use_additional_conditions": False})
    return quiet(
        getattr(diffusers, f"PixArt{kind}Pipeline")(
            **(t5() if texts is None else texts),
            vae=autoencoder(scaling_factor=0.5),
            transformer=denoiser,
            scheduler=diffusers.DPMSolverMultistepScheduler(),
        )
    )


def flux(folder: Path | None = None, texts: Texts | None = None) -> Any:
    """Takes embedded prompts: it has no text encoders. With a folder for CLIP's tokenizer it has both."""
    if texts is None and folder is not None:
        texts = clips(tokenizer(folder), False) | t5("_2")
    names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    denoiser = made(
        "FluxTransformer2DModel", **FLUX | {"in_channels": 16, "pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)}
    )
    return quiet(
        diffusers.FluxPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.1, scaling_factor=0.5),
            **(dict.fromkeys(names) if texts is None else texts),
            transformer=denoiser,
        )
    )


def _qwen() -> Texts:
    words = text_encoders.qwen()
    return {"tokenizer": words, "text_encoder": text_encoders.decoder(words)}


def _autoencoder_of_flux_2() -> nn.Module:
    """Its batch norm has seen something."""
    vae = made("AutoencoderKLFlux2", **VAE)
    torch.manual_seed(1)
    norm: Any = vae.bn
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return vae


def _denoiser_of_flux_2(text: int) -> nn.Module:
    own = {"in_channels": 16, "joint_attention_dim": text, "axes_dims_rope": (2, 2, 2, 2)}
    return made("Flux2Transformer2DModel", **FLUX | own | {"timestep_guidance_channels": 16})


def flux_2(texts: Texts | None = None, width: int = 16) -> Any:
    """Takes embedded prompts; its text encoder is one of text and pictures. ``width`` is of the text."""
    return quiet(
        of_diffusers("Flux2Pipeline")(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=_autoencoder_of_flux_2(),
            **({"text_encoder": None, "tokenizer": None} if texts is None else texts),
            transformer=_denoiser_of_flux_2(width),
        )
    )


def flux_2_klein(texts: Texts | None = None) -> Any:
    """The small FLUX.2, which reads by Qwen3; call it with ``text_encoder_out_layers=(0, 1, 2)``, all that it has."""
    return quiet(
        of_diffusers("Flux2KleinPipeline")(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=_autoencoder_of_flux_2(),
            **(_qwen() if texts is None else texts),
            transformer=_denoiser_of_flux_2(3 * 16),
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


def qwen_image(text: bool = False, texts: Texts | None = None) -> Any:
    """Takes embedded prompts, too, or with ``text`` has its text encoder."""
    vae = made("AutoencoderKLQwenImage", base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
               latents_mean=[0.1, -0.2, 0.3, -0.4], latents_std=[1.0, 0.5, 2.0, 1.5])  # fmt: skip
    denoiser = made(
        "QwenImageTransformer2DModel",
        **MMDIT | {"patch_size": 2, "in_channels": 16, "out_channels": 4, "axes_dims_rope": (2, 2, 4)},
    )
    words = text_encoders.qwen() if text else None
    if texts is None:
        texts = {"tokenizer": words, "text_encoder": None if words is None else text_encoders.seeing_decoder(words)}
    pipe = quiet(
        of_diffusers("QwenImagePipeline")(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            **texts,
            transformer=denoiser,
        )
    )
    if words is not None:  # as many tokens as its template has before the prompt: 34 by the real tokenizer
        before = pipe.prompt_template_encode.partition("{}")[0]
        pipe.prompt_template_encode_start_idx = len(words(before).input_ids)
    return pipe


def dit() -> Any:
    """Its pipeline says "no class" by the label 1000."""
    return quiet(
        diffusers.DiTPipeline(
            transformer=made("DiTTransformer2DModel", **DIT | {"num_embeds_ada_norm": 1000, "out_channels": 8}),
            vae=autoencoder(),
            scheduler=diffusers.DDIMScheduler(),
        )
    )


def z_image(text: bool = False, texts: Texts | None = None) -> Any:
    """Takes embedded prompts, or with ``text`` has its text encoder."""
    if texts is None:
        texts = _qwen() if text else {"tokenizer": None, "text_encoder": None}
    denoiser = made(
        "ZImageTransformer2DModel", in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=4, n_kv_heads=4,
        cap_feat_dim=16, axes_dims=[4, 2, 2], axes_lens=[600, 32, 32],
    )  # fmt: skip
    return quiet(
        of_diffusers("ZImagePipeline")(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(shift_factor=0.1, scaling_factor=0.5),
            **texts,
            transformer=denoiser,
        )
    )
