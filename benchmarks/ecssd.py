"""ECSSD for the benchmarks: pictures, masks, a seed on the object, and how well a map finds it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tokenrank.evaluate.protocols.saliency import seed_of as protocol_seed


def pictures(data: Path, count: int) -> list[Path]:
    """The first ``count`` pictures of ``data``, by name."""
    files = sorted((data / "images").glob("*.jpg"))[:count]
    if not files:
        sys.exit(f"no images/*.jpg in {data}; expected ECSSD's folders images and masks")
    return files


def mask_of(picture: Path) -> Tensor:
    """The object, bool (height, width)."""
    file = picture.parent.parent / "masks" / f"{picture.stem}.png"
    return torch.from_numpy(np.array(Image.open(file).convert("L")) > 127)


def seed_of(mask: Tensor, rows: int, columns: int) -> int:
    """Index of the patch that the protocol ``seed`` starts from."""
    row, column = protocol_seed(mask.numpy(), rows, columns)
    return row * columns + column


def ious(values: Tensor, mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Foreground intersection over union of maps (m, patches), enlarged and thresholded at their mean, (m,)."""
    enlarged = F.interpolate(values.view(-1, 1, *grid), mask.shape, mode="bilinear")[:, 0]
    found = enlarged > enlarged.mean((-2, -1), keepdim=True)
    both = (found & mask).sum((-2, -1))
    return both / (found.sum((-2, -1)) + mask.sum() - both)


def iou(values: Tensor, mask: Tensor, grid: tuple[int, int]) -> float:
    """The same of one map (patches,)."""
    return float(ious(values[None], mask, grid)[0])
