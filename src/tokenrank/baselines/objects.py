"""Objects found in a picture, and the maps that they are parts of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import Self

from ..chain import TokenMap
from ..components import component_of
from ..layout import TokenLayout
from ..observation import Observation
from ..tasks.strength import strength_words, strengths


@dataclass(frozen=True, eq=False)
class DiscoveredObject:
    """The one object that unsupervised discovery returns.

    Attributes:
        seed: index of the patch it grew from, row by row; None where the picture has no structure to cut.
        mask: bool (rows, columns), the 4-connected part of the foreground that holds the seed.
        strength: of the mask, see ``ForegroundMap``.
    """

    seed: int | None
    mask: Tensor
    strength: float | None = None

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


@dataclass(frozen=True, eq=False, repr=False)
class ForegroundMap(TokenMap):
    """A map whose method has a mask of its own, which ``mask()``, the rule for all maps, need not agree with.

    Attributes:
        foreground: bool (rows, columns), the patches beyond the method's own threshold.
        strength: how much the foreground stands out, from −1 to 1; 0 is what a picture of one colour gives, and below
            0.1 there may be nothing (``tokenrank.tasks.strengths``). None where it is not known, such as of features
            alone or of attention that was captured before.
    """

    foreground: Tensor = field(kw_only=True)
    strength: float | None = field(kw_only=True, default=None, compare=False)

    def worth_words(self) -> str:
        """The strength, where it is known."""
        return "" if self.strength is None else strength_words(self.strength)

    def judged(self, observation: Observation) -> Self:
        """The same map with its strength, seen by a model."""
        found = strengths(observation, self.foreground[None].cpu())
        return self if found is None else replace(self, strength=found[0])


@dataclass(frozen=True, eq=False, repr=False)
class ObjectMap(ForegroundMap):
    """A map whose method finds one object.

    Attributes:
        object: seed, mask and box of the part of the foreground that holds the seed.
    """

    object: DiscoveredObject = field(kw_only=True)

    def judged(self, observation: Observation) -> Self:
        """The same map with the strengths of its foreground and its object."""
        found = strengths(observation, torch.stack([self.foreground, self.object.mask]).cpu())
        if found is None:
            return self
        return replace(self, strength=found[0], object=replace(self.object, strength=found[1]))

    @classmethod
    def grown(cls, values: Tensor, foreground: Tensor, seed: int | None, grid: tuple[int, int]) -> ObjectMap:
        """From values (P,) and foreground (P,), row by row; the object is the part that holds the seed.

        Raises:
            MissingExtraError: scipy is not installed.
        """
        foreground = foreground.reshape(grid)
        mask = torch.zeros_like(foreground)
        if seed is not None:
            part = component_of(foreground.cpu().numpy(), *divmod(seed, grid[1]))
            mask = torch.from_numpy(part).to(foreground.device)
        layout = TokenLayout({"image": len(values)}, {"image": grid})
        return cls(values, layout, foreground=foreground, object=DiscoveredObject(seed, mask))
