"""Random values: what chance scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..models import Model
from ..observation import Observation


def random_map(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    seed: int = 0,
) -> TokenMap:
    """Independent uniform values in [0, 1), the same for equal ``seed`` and number of patches on every machine.

    The level of chance, below which a method says the opposite of the truth; ``map.mask()`` keeps about half of the
    patches. Pictures of one size share a map unless the seed changes with the picture.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: ignored; the method has no class and no start.
        observation: of the same picture, where there is one.
        seed: of the random numbers.
    """
    seen = Observation.of(model, inputs, observation)
    return seen.map(uniform_values(len(seen.patches), seed).to(seen.full(0).device))


def uniform_values(count: int, seed: int = 0) -> Tensor:
    """``count`` values in [0, 1), float64; PyTorch's global random numbers are left alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64)
