"""Sizes of pictures and patches: what a model was built for, and what a picture becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import InputError

MAX_PATCHES = 16_384
"""Most patches that a picture may be cut into: 128 × 128. Attention over more is rarely meant."""


def pair(value: Any) -> tuple[int, int] | None:
    """(rows, columns) from an int or a pair of ints; None from anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value) if value > 0 else None
    if isinstance(value, Sequence) and len(value) == 2:
        rows, columns = value
        if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
            return rows, columns
    return None


def patch_size(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) of a patch in pixels, from the attributes of transformers and timm models."""
    return _attribute(model, "patch_size")


def native_size(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) in pixels of the pictures that the model was built for."""
    return _attribute(model, "image_size") or _attribute(model, "img_size")


def _attribute(model: nn.Module, name: str) -> tuple[int, int] | None:
    config = getattr(model, "config", None)
    # Dual encoders keep the picture's figures in config.vision_config, timm in patch_embed.
    for owner in (config, getattr(config, "vision_config", None), model):
        if (found := pair(getattr(owner, name, None))) is not None:
            return found
    for module in model.modules():
        embed = getattr(module, "patch_embed", None) or getattr(module, "embeds", None)
        if embed is not None and (found := pair(getattr(embed, name, None))) is not None:
            return found
    return None


def fit_size(width: int, height: int, size: int, patch: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels to which a picture is resized.

    The long side becomes ``size``, the short side follows the picture's aspect ratio, and both are
    rounded to the nearest multiple of the patch, one patch at least. So a 20,000 × 20 picture is
    stretched to one row of patches, and a 1 × 1 picture becomes a plain square.

    Raises:
        InputError: ``size`` is not positive, or asks for more than ``MAX_PATCHES`` patches.
    """
    if size < 1:
        raise InputError(f"size = {size}; expected the long side in pixels, such as 224")
    scale = size / max(width, height)
    rows = max(1, round(height * scale / patch[0]))
    columns = max(1, round(width * scale / patch[1]))
    if rows * columns > MAX_PATCHES:
        largest = int(size * (MAX_PATCHES / (rows * columns)) ** 0.5)
        raise InputError(
            f"size = {size} cuts this {width} × {height} picture into {rows} × {columns} = "
            f"{rows * columns:,} patches, and {MAX_PATCHES:,} is the most; pass size={largest} or less"
        )
    return rows * patch[0], columns * patch[1]
