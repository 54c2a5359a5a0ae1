"""Pictures and mosaics of two of them, whose parts are known."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import load_split

SIDE = 32
CELL = 2  # pixels of a side that a cell of the latents stands for


def load_classes(folder: Path, stem: str, classes: tuple[int, ...], side: int = 2 * SIDE) -> tuple[Tensor, Tensor]:
    """Pictures (M, 3, side, side) from −1 to 1 of some classes, and their places in ``classes``, (M,)."""
    pictures, labels = load_split(folder, stem, side)
    places = torch.full((int(labels.max()) + 1,), -1)
    places[list(classes)] = torch.arange(len(classes))
    kept = places[labels] >= 0
    return pictures[kept].float().div_(127.5).sub_(1), places[labels[kept]]


def single(pictures: Tensor) -> Tensor:
    """(B, 3, 64, 64) to (B, 3, 32, 32)."""
    return F.avg_pool2d(pictures, 2)


def mosaic(one: Tensor, two: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures in one, scaled and not cut, and where the second is.

    Args:
        one, two: (B, 3, 64, 64).
        kind: int64 (B,): 0 side by side, 1 one above the other, 2 to 5 the second in a quarter of the first.

    Returns:
        (B, 3, 32, 32), and bool (B, 32, 32), true where ``two`` is.
    """
    half = SIDE // 2
    narrow, flat, small = (F.avg_pool2d(two, size) for size in ((2, 4), (4, 2), (4, 4)))
    made = torch.stack([
        torch.cat([F.avg_pool2d(one, (2, 4)), narrow], 3),
        torch.cat([F.avg_pool2d(one, (4, 2)), flat], 2),
        *[single(one)] * 4,
    ])  # fmt: skip
    inside = torch.zeros(6, SIDE, SIDE, dtype=torch.bool)
    inside[0, :, half:] = inside[1, half:] = True
    for quarter in range(4):
        rows, columns = (slice(half * place, half * place + half) for place in divmod(quarter, 2))
        inside[2 + quarter, rows, columns] = True
        made[2 + quarter, :, :, rows, columns] = small
    return made[kind, torch.arange(len(one))], inside[kind]


def draw(pictures: Tensor, labels: Tensor, count: int, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch for training: pictures, their classes, the second classes, and which are mosaics (a ``share``)."""
    i, j = torch.randint(len(pictures), (2, count))
    one, two = (torch.where(torch.rand(count, 1, 1, 1) < 0.5, x.flip(-1), x) for x in (pictures[i], pictures[j]))
    both = (torch.rand(count) < share) & (labels[i] != labels[j])
    kinds = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5])[torch.randint(8, (count,))]
    mixed = torch.where(both[:, None, None, None], mosaic(one, two, kinds)[0], single(one))
    return mixed, labels[i], labels[j], both


def to_latents(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 12, H/2, W/2): the four pixels of a cell side by side."""
    return F.pixel_unshuffle(pictures, CELL)
