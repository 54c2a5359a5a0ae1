"""Preprocessing with Pillow alone (no torchvision): sizes of pictures and patches, and the tensor of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from ..errors import InputError

MAX_PATCHES = 16_384
"""Most patches that a picture may be cut into: 128 × 128. Attention over more is rarely meant."""
_COARSEST = (32, 32)
"""Multiple of sizes for models without patches: the stride of the usual convolutional trunks."""


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
        if (size := pair(getattr(owner, name, None))) is not None:
            return size
    for module in model.modules():
        embed = getattr(module, "patch_embed", None) or getattr(module, "embeds", None)
        if embed is not None and (size := pair(getattr(embed, name, None))) is not None:
            return size
    return None


def fit_size(width: int, height: int, size: int, patch: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels to which a picture is resized.

    The long side becomes ``size``, the short side follows the picture's aspect ratio, and both are
    rounded to the nearest multiple of the patch, one patch at least. So a 20,000 × 20 picture is
    stretched to one row of patches, and a 1 × 1 picture becomes a plain square.

    Raises:
        InputError: ``size`` is not positive, is less than a patch, or asks for more than ``MAX_PATCHES`` patches.
    """
    if size < 1:
        raise InputError(f"size = {size}; expected the long side in pixels, such as 224")
    if size < max(patch):
        raise InputError(
            f"size = {size} is less than one patch of {patch[0]} × {patch[1]} pixels; expected {max(patch)} or more, "
            f"such as {16 * max(patch)} for 16 patches along the long side"
        )
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


@dataclass(frozen=True)
class ImageSettings:
    """What a model expects of a picture.

    Args:
        size: the long side in pixels where the caller names none.
        patch: (height, width) of a patch in pixels; both sides become a multiple of it.
        mean, std: one number a channel, on the scale that ``scale`` gives.
        native: (height, width) that the model was built for.
        fixed: True where the model reads ``native`` only. The picture is then squeezed into it.
        scale: factor from bytes to the model's scale.
        resample: Pillow's filter for resizing.
        flip_channels: True where the model reads blue, green, red.
    """

    size: int
    patch: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    native: tuple[int, int]
    fixed: bool = False
    scale: float = 1 / 255
    resample: PIL.Image.Resampling = PIL.Image.Resampling.BICUBIC
    flip_channels: bool = False

    def resized(self, size: int) -> ImageSettings:
        """The same settings with another default long side; it is checked here where positions are fixed."""
        if self.fixed:
            self._refuse_size(size)
        return replace(self, size=size)

    def _refuse_size(self, size: int) -> None:
        if size != max(self.native):
            raise InputError(
                f"size = {size}; this model's positions are fixed, it reads {self.native[0]} × "
                f"{self.native[1]} only; leave size out"
            )

    def target(self, picture: PIL.Image.Image, size: int | None = None) -> tuple[int, int]:
        """(height, width) that ``picture`` is resized to; see ``geometry.fit_size``.

        Raises:
            InputError: a size that the model cannot take, or too many patches.
        """
        if self.fixed:
            self._refuse_size(max(self.native) if size is None else size)
            return self.native
        return fit_size(picture.width, picture.height, self.size if size is None else size, self.patch)

    def pixels(self, picture: PIL.Image.Image, size: int | None = None) -> Tensor:
        """The picture as (1, C, height, width), float32, resized and normalised."""
        rows, columns = self.target(picture, size)
        grey = len(self.mean) == 1
        resized = (picture.convert("L") if grey else picture).resize((columns, rows), self.resample)
        values = np.asarray(resized, dtype=np.float32).reshape(rows, columns, len(self.mean))
        if self.flip_channels:
            values = values[..., ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        normalised = (values * np.float32(self.scale) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))[None]


def settings_from_processor(
    processor: Mapping[str, Any],
    *,
    patch: tuple[int, int] | None,
    native: tuple[int, int] | None,
    fixed: bool,
    channels: int = 3,
) -> ImageSettings:
    """Read a ``preprocessor_config.json``, old or new.

    Its size (the crop's, where it crops) is the default long side. Crops are not applied: the whole
    picture is kept, in its own aspect ratio.

    Raises:
        InputError: it has no mean and standard deviation, not one a channel, or no size anywhere.
    """
    side = _side(processor) or (max(native) if native else None)
    if side is None:
        raise InputError("neither the model's configuration nor its preprocessor_config.json has a size; add one")
    mean, std = (0.0,) * channels, (1.0,) * channels
    if processor.get("do_normalize", True):
        mean, std = _statistic(processor, "image_mean", channels), _statistic(processor, "image_std", channels)
    scale = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    return ImageSettings(
        size=side,
        patch=patch or _COARSEST,
        mean=mean,
        std=std,
        native=native or (side, side),
        fixed=fixed,
        scale=scale,
        resample=PIL.Image.Resampling(processor.get("resample", PIL.Image.Resampling.BICUBIC)),
        flip_channels=bool(processor.get("do_flip_channel_order", False)),
    )


def _side(processor: Mapping[str, Any]) -> int | None:
    sizes = [processor.get("size")]
    if processor.get("do_center_crop", processor.get("crop_size") is not None):
        sizes.insert(0, processor.get("crop_size"))
    for size in sizes:
        values = size.values() if isinstance(size, Mapping) else [size]
        if numbers := [max(p) for v in values if (p := pair(v)) is not None]:
            return max(numbers)
    return None


def _statistic(processor: Mapping[str, Any], name: str, channels: int) -> tuple[float, ...]:
    value = processor.get(name)
    numbers = [value] * channels if isinstance(value, int | float) else value
    if not isinstance(numbers, list | tuple) or len(numbers) != channels:
        raise InputError(
            f"preprocessor_config.json has {name} = {value!r}; expected {channels} numbers, one a channel; add them"
        )
    return tuple(float(n) for n in numbers)
