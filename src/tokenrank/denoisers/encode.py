"""A real picture as the latents that a family's denoiser works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from .family import Family


def encoded(pipe: Any, family: Family, picture: PIL.Image.Image, height: int, width: int) -> Tensor:
    """The latents of a picture in the scale of the denoiser, without noise, float32 of a batch of one.

    The most likely latents of the autoencoder are taken, no sample of them: one picture is always the same.

    Args:
        picture: upright RGB; resized without cropping.
        height, width: in pixels, multiples of ``pipeline.cell``.

    Returns:
        (1, C, h, w), or packed (1, h · w / 4, 4 · C); see ``Family.form``, of which "listed" is a grid here.
    """
    pixels = pipe.image_processor.preprocess(picture, height=height, width=width)
    with torch.no_grad(), stable(pipe.vae) as vae:
        pixels = pixels.to(pipe._execution_device, vae.dtype)
        code = vae.encode(pixels[:, :, None] if is_of_frames(vae) else pixels)
    latents = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latents
    latents = (latents[:, :, 0] if latents.ndim == 5 else latents).float()
    if getattr(vae, "bn", None) is not None:  # FLUX.2 normalises what it packed
        return _standardised(vae, packed(latents))
    latents = _normalised(vae, latents)
    return packed(latents) if family.form == "packed" else latents


def packed(latents: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h · w / 4, 4 · C): cells of 2 × 2 latents, row by row, as one token each."""
    batch, channels, rows, columns = latents.shape
    cells = latents.reshape(batch, channels, rows // 2, 2, columns // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, (rows // 2) * (columns // 2), channels * 4)


def _normalised(vae: Any, latents: Tensor) -> Tensor:
    """(z − shift − mean) · scale / deviation, of what the autoencoder's config states of these."""
    config = vae.config
    shift, scale = getattr(config, "shift_factor", None) or 0.0, getattr(config, "scaling_factor", None) or 1.0
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    moved = latents - shift
    if mean is not None and deviation is not None:
        by_channel = (1, -1, 1, 1)
        moved = (moved - latents.new_tensor(mean).view(by_channel)) / latents.new_tensor(deviation).view(by_channel)
    return moved * scale


def _standardised(vae: Any, tokens: Tensor) -> Tensor:
    """Tokens (B, N, 4 · C) with the running mean and variance of the autoencoder's batch norm."""
    mean, variance = vae.bn.running_mean.to(tokens), vae.bn.running_var.to(tokens)
    return (tokens - mean) / (variance + vae.config.batch_norm_eps).sqrt()


def is_of_frames(vae: Any) -> bool:
    """Whether an autoencoder reads (B, 3, frames, height, width), as Qwen-Image's, which comes from a video model."""
    return hasattr(vae.config, "temperal_downsample")


@contextmanager
def stable(vae: Any) -> Iterator[Any]:
    """The autoencoder, for the length of the block in float32 where its config says that half precision overflows."""
    half = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    if not half:
        yield vae
        return
    vae.to(torch.float32)
    try:
        yield vae
    finally:
        vae.to(torch.float16)
