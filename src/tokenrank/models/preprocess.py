"""From a picture to the tensor that a model reads, with Pillow alone (no torchvision)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ..errors import InputError
from .geometry import fit_size, pair


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


_COARSEST = (32, 32)
"""Multiple of sizes for models without patches: the stride of the usual convolutional trunks."""


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
