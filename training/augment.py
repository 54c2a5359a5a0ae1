"""Random crops and the blob masks that paste one image into another."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def random_crops(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 (B, 3, H, W) to float crops (B, 3, size, size) in [0, 1].

    Area 40–100 %, aspect e^±0.25, horizontal flips, brightness and contrast ±25 %.
    """
    b = images.shape[0]
    side = torch.empty(b).uniform_(0.4, 1).sqrt()
    aspect = torch.empty(b).uniform_(-0.25, 0.25).exp()
    sx, sy = (side * aspect).clamp(max=1), (side / aspect).clamp(max=1)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = sx * torch.where(torch.rand(b) < 0.5, -1.0, 1.0)
    theta[:, 0, 2] = (torch.rand(b) * 2 - 1) * (1 - sx)
    theta[:, 1, 1] = sy
    theta[:, 1, 2] = (torch.rand(b) * 2 - 1) * (1 - sy)
    grid = F.affine_grid(theta, [b, 3, size, size], align_corners=False)
    x = F.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
    brightness, contrast = torch.empty(2, b, 1, 1, 1).uniform_(0.75, 1.25)
    centre = x.mean((1, 2, 3), keepdim=True)
    return ((x - centre) * contrast + centre * brightness).clamp(0, 1)


def blob_masks(batch: int, size: int) -> torch.Tensor:
    """Random smooth regions, float (B, 1, size, size) in {0, 1}, covering 25–60 % of the image."""
    field = F.interpolate(torch.randn(batch, 1, 5, 5), (size, size), mode="bicubic").flatten(1)
    covered = torch.empty(batch).uniform_(0.25, 0.6)
    last = field.shape[1] - 1
    threshold = field.sort(1).values.gather(1, ((1 - covered) * last).long()[:, None])
    return (field > threshold).float().view(batch, 1, size, size)
