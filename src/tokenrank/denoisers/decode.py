"""Latents of a denoiser as the picture that its pipeline would make of them."""

from __future__ import annotations

from typing import Any

import PIL.Image
import torch
from torch import Tensor

from .encode import is_of_frames, stable
from .family import Family


def decoded(pipe: Any, family: Family, latents: Tensor, height: int, width: int) -> list[PIL.Image.Image]:
    """The pictures of latents as the sampler holds them: ``encode.encoded`` undone.

    Args:
        latents: (B, C, h, w), or packed (B, h · w / 4, 4 · C), in the scale of the denoiser.
        height, width: of the pictures in pixels.
    """
    with torch.no_grad(), stable(pipe.vae) as vae:
        grid = latents.float()
        if getattr(vae, "bn", None) is not None:  # FLUX.2 normalises what it packed
            grid = unpacked(_destandardised(vae, grid), *_sides(pipe, height, width))
        else:
            grid = unpacked(grid, *_sides(pipe, height, width)) if family.form == "packed" else grid
            grid = _denormalised(vae, grid)
        grid = grid.to(vae.device, vae.dtype)
        made = vae.decode(grid[:, :, None] if is_of_frames(vae) else grid, return_dict=False)[0]
    made = made[:, :, 0] if made.ndim == 5 else made
    pictures: list[PIL.Image.Image] = pipe.image_processor.postprocess(made, output_type="pil")
    return pictures


def unpacked(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """(B, rows · columns / 4, 4 · C) → (B, C, rows, columns): ``encode.packed`` undone."""
    cells = tokens.reshape(len(tokens), rows // 2, columns // 2, -1, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows, columns)


def _sides(pipe: Any, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the latents."""
    step = 2 * int(pipe.vae_scale_factor)
    return 2 * (height // step), 2 * (width // step)


def _denormalised(vae: Any, latents: Tensor) -> Tensor:
    """z / scale · deviation + mean + shift, of what the autoencoder's config states of these."""
    config = vae.config
    shift, scale = getattr(config, "shift_factor", None) or 0.0, getattr(config, "scaling_factor", None) or 1.0
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    moved = latents / scale
    if mean is not None and deviation is not None:
        by_channel = (1, -1, 1, 1)
        moved = moved * latents.new_tensor(deviation).view(by_channel) + latents.new_tensor(mean).view(by_channel)
    return moved + shift


def _destandardised(vae: Any, tokens: Tensor) -> Tensor:
    mean, variance = vae.bn.running_mean.to(tokens), vae.bn.running_var.to(tokens)
    return tokens * (variance + vae.config.batch_norm_eps).sqrt() + mean
