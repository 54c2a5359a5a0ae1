"""One random crop of every picture, at any size: the student looks at 8 pixels where the teacher looks at 14."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import normalise

AREA = (0.3, 1.0)
ASPECT = 0.25  # e^±
COLOUR = (0.75, 1.25)  # brightness and contrast


class Crops:
    """The same crops of pictures (B, 3, H, W) in uint8, whatever the size that is asked for.

    Area 30–100 %, aspect e^±0.25, horizontal flips, brightness and contrast ±25 %, all drawn once.
    """

    def __init__(self, pictures: Tensor) -> None:
        count, device = len(pictures), pictures.device

        def drawn(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(*shape, device=device).uniform_(low, high)

        side, aspect = drawn(*AREA, count).sqrt(), drawn(-ASPECT, ASPECT, count).exp()
        across, down = (side * aspect).clamp(max=1), (side / aspect).clamp(max=1)
        self.place = torch.zeros(count, 2, 3, device=device)
        self.place[:, 0, 0] = across * torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
        self.place[:, 0, 2] = drawn(-1, 1, count) * (1 - across)
        self.place[:, 1, 1] = down
        self.place[:, 1, 2] = drawn(-1, 1, count) * (1 - down)
        brightness, contrast = drawn(*COLOUR, count, 1, 1, 1), drawn(*COLOUR, count, 1, 1, 1)
        values = pictures.float() / 255
        centre = values.mean((1, 2, 3), keepdim=True)
        self.pictures = ((values - centre) * contrast + centre * brightness).clamp(0, 1)

    def at(self, size: int) -> Tensor:
        """Normalised crops (B, 3, size, size): sampled at twice the size and averaged, against aliasing."""
        wanted = [len(self.place), 3, 2 * size, 2 * size]
        grid = F.affine_grid(self.place, wanted, align_corners=False)
        fine = F.grid_sample(self.pictures, grid, align_corners=False, padding_mode="reflection")
        return normalise(F.avg_pool2d(fine, 2))
