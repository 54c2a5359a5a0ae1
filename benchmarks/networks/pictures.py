"""Pictures to compare networks on: the photographs that come with tokenrank."""

from __future__ import annotations

import PIL.Image
import torch
from torch import Tensor

import tokenrank as tr


def photographs(model: tr.Model, side: int) -> Tensor:
    """All of them squeezed to a square, prepared for the model, (4, 3, side, side)."""
    pictures = [PIL.Image.open(tr.samples.path(name)).convert("RGB") for name in tr.samples.names()]
    squares = [picture.resize((side, side), PIL.Image.Resampling.BICUBIC) for picture in pictures]
    return torch.cat([model.prepare(square, size=side)["pixel_values"] for square in squares])
