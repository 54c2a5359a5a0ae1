"""Features: a network that turns pictures into vectors, and those of this package's models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from ...models import Model, load
from ..runner.settings import weights_digest
from .pictures import Bytes

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """What a network says of pictures.

    Attributes:
        values: (n, d).
        logits: (n, classes) where the network has a classifier.
    """

    values: Array
    logits: Array | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, places: npt.NDArray[np.int64] | slice) -> Features:
        return Features(self.values[places], None if self.logits is None else self.logits[places])


@dataclass(frozen=True, eq=False)
class Network:
    """A network that gives features.

    Attributes:
        name: distances bear it: ``fd_NAME``, ``kid_NAME``.
        digest: changes with its weights and with how pictures are brought to it.
        run: uint8 pictures (B, H, W, 3) of one size → features.
    """

    name: str
    digest: str
    run: Callable[[Bytes], Features] = field(repr=False)


def of_model(model: Model, name: str | None = None, size: int | None = None) -> Network:
    """The CLS token, after the last layer, of a picture model as ``tr.load`` gives it; with logits if it has a head.

    Pictures are squeezed to a square, bicubically with antialiasing, and normalised as the model asks.

    Args:
        model: such as ``tr.load(folder of DINOv2-small)``.
        name: in the names of distances; the model's own where None.
        size: side of the square in pixels; the model's default where None.

    Raises:
        InputError: a model that reads no pictures, or a size that its patches do not divide.
    """
    settings = model.images
    if settings is None:
        raise InputError(f"model {model.name!r} reads {model.kind}, expected one that reads pictures")
    side = settings.size if size is None else size
    if side < 1 or any(side % patch for patch in settings.patch):
        raise InputError(
            f"size = {side}, expected a multiple of the patch, {settings.patch[0]} × {settings.patch[1]} pixels"
        )
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (settings.mean, settings.std))
    module = model.module

    @torch.no_grad()
    def run(pictures: Bytes) -> Features:
        pixels = resized(torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2), side) * (255 * settings.scale)
        if settings.flip_channels:
            pixels = pixels.flip(1)
        output = module(pixel_values=(pixels - mean) / std)
        values = output.last_hidden_state[:, 0]
        return Features(values.float().numpy(), None if model.head is None else model.classify(output).float().numpy())

    return Network(name or model.name, f"{weights_digest(module)}-{side}-{model.head is not None}", run)


def bundled(size: int = 64) -> Network:
    """The picture network of this package with its classifier of Tiny-ImageNet's 200 classes."""
    return of_model(load("bundled", head=True), "bundled", size)


def resized(pictures: Tensor, side: int) -> Tensor:
    """uint8 (B, 3, H, W) to float32 (B, 3, side, side) from 0 to 1."""
    made = pictures.float() / 255
    if made.shape[-2:] != (side, side):
        made = F.interpolate(made, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    return made
