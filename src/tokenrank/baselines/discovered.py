"""One object found in a picture, with the patch it grew from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..components import component_of


@dataclass(frozen=True, eq=False)
class DiscoveredObject:
    """What unsupervised object discovery returns besides its map.

    Attributes:
        values: (P,), float64, high on the object.
        foreground: bool (rows, columns), all patches beyond the method's threshold.
        mask: bool (rows, columns), the 4-connected part of the foreground that holds the seed.
        seed: index of the patch it grew from, row by row; None where the picture has no structure to cut.
    """

    values: Tensor
    foreground: Tensor
    mask: Tensor
    seed: int | None

    @classmethod
    def grown(cls, values: Tensor, foreground: Tensor, seed: int | None, grid: tuple[int, int]) -> DiscoveredObject:
        """From values (P,) and foreground (P,), row by row, keeping the part that holds the seed."""
        foreground = foreground.reshape(grid)
        mask = torch.zeros_like(foreground)
        if seed is not None:
            part = component_of(foreground.cpu().numpy(), *divmod(seed, grid[1]))
            mask = torch.from_numpy(part).to(foreground.device)
        return cls(values, foreground, mask, seed)

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The mask's bounding box (x0, y0, x1, y1) in fractions of the picture; None where the mask is empty."""
        if not self.mask.any():
            return None
        rows, columns = self.mask.shape
        down, across = self.mask.any(1).nonzero(), self.mask.any(0).nonzero()
        return (
            int(across.min()) / columns,
            int(down.min()) / rows,
            (int(across.max()) + 1) / columns,
            (int(down.max()) + 1) / rows,
        )
