"""A Gaussian in the middle: photographers put things there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap
from ..errors import InputError
from ..models import Model
from ..observation import Observation

SIGMA = 0.25


def centre_prior(
    model: Model,
    inputs: Mapping[str, Any],
    target: Any = None,
    *,
    observation: Observation | None = None,
    sigma: float = SIGMA,
) -> TokenMap:
    """exp(−((x − ½)² + (y − ½)²) / 2σ²) at the centres of the patches; values in (0, 1], largest in the middle.

    x and y are fractions of the picture's width and height, so that the bump has the picture's shape. It looks at no
    pixel: what a map gains over it is what the model saw. Centre bias as a baseline: Judd et al., "Learning to predict
    where humans look" (ICCV 2009); the default width is a choice of this library, from no publication.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: ignored; the method has no class and no start.
        observation: of the same picture, where there is one.
        sigma: standard deviation as a fraction of width and height, above 0.

    Raises:
        InputError: sigma is not a finite number above 0.
    """
    seen = Observation.of(model, inputs, observation)
    return seen.map(centred_gaussian(seen.grid, sigma).to(seen.full(0).device))


def centred_gaussian(grid: tuple[int, int], sigma: float = SIGMA) -> Tensor:
    """The bump at the patches of a grid (rows, columns): (P,) in float64, row by row.

    Raises:
        InputError: sigma is not a finite number above 0.
    """
    if isinstance(sigma, bool) or not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma = {sigma!r}, expected a fraction of the picture above 0, such as {SIGMA}")
    down, across = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / sigma for n in grid)
    return torch.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / 2).flatten()
