"""Blackened pixels: RGB 0 before normalisation, in whole patches or one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...models import Model
from .sites import Sites, pixels_of


def black(model: Model) -> Tensor:
    """What RGB 0 becomes in a prepared picture, (C,): −mean / std.

    Raises:
        InputError: a model without settings for pictures.
    """
    if model.images is None:
        raise InputError(f"model {model.name!r} reads {model.kind}, expected one that reads pictures")
    return -torch.tensor(model.images.mean) / torch.tensor(model.images.std)


def blackened(model: Model, inputs: Mapping[str, Any], pixels: Tensor) -> dict[str, Any]:
    """Inputs with some pixels black.

    Args:
        pixels: bool (B, H, W), True where they go.
    """
    name, values = pixels_of(inputs)
    dark = black(model).to(values)[None, :, None, None]
    return {**inputs, name: torch.where(pixels[:, None].to(values.device), dark, values)}


def patch_pixels(patches: Tensor, sites: Sites, size: tuple[int, int]) -> Tensor:
    """Pixels of patches: bool (B, P) → (B, H, W), every patch H / rows × W / columns pixels.

    Raises:
        InputError: the grid does not divide the picture.
    """
    rows, columns = sites.grid
    if size[0] % rows or size[1] % columns:
        raise InputError(
            f"a grid of {rows} × {columns} patches does not divide the picture of {size[0]} × {size[1]} pixels, so "
            "patches overlap; use mask_pixels, or how='keys'"
        )
    grid = patches.reshape(-1, rows, columns)
    return grid.repeat_interleave(size[0] // rows, 1).repeat_interleave(size[1] // columns, 2)
