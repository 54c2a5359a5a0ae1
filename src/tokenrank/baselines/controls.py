"""Controls, which look at no attention: chance, the middle of the picture, and its border."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..chain import AttentionChain, TokenMap
from ..errors import InputError
from ..observation import Observation
from ..reading import Reading, Source, observe
from ..select import whole_number
from ..tasks.absorbed import border
from .registry import register

SIGMA = 0.25


@register("random", needs=("random",))
def random_map(source: Source, *, random: int = 0, **reading: Unpack[Reading]) -> TokenMap:
    """Independent uniform values in [0, 1), the same for equal ``random`` and number of patches on every machine.

    The level of chance, below which a method says the opposite of the truth; ``map.mask()`` keeps about half of the
    patches. Pictures of one size share a map unless ``random`` changes with the picture.

    Args:
        source, reading: see ``tr.observe``.
        random: seed of the random numbers.

    Raises:
        InputError: no whole number.
    """
    observation = observe(source, **reading)
    return _placed(observation, uniform_values(len(observation.patches), random))


@register("centre_prior")
def centre_prior(source: Source, *, sigma: float = SIGMA, **reading: Unpack[Reading]) -> TokenMap:
    """exp(−((x − ½)² + (y − ½)²) / 2σ²) at the centres of the patches; values in (0, 1], largest in the middle.

    x and y are fractions of the picture's width and height, so that the bump has the picture's shape. It looks at no
    pixel: what a map gains over it is what the model saw. Centre bias as a baseline: Judd et al., "Learning to predict
    where humans look" (ICCV 2009); the default width is a choice of this library, from no publication.

    Args:
        source, reading: see ``tr.observe``.
        sigma: standard deviation as a fraction of width and height, above 0.

    Raises:
        InputError: sigma is not a finite number above 0.
    """
    observation = observe(source, **reading)
    return _placed(observation, centred_gaussian(observation.grid, sigma))


@register("lattice")
def lattice(source: Source, **reading: Unpack[Reading]) -> TokenMap:
    """What the border alone says: bounces of a walk between neighbouring patches until it gets there.

    Expected hitting times of the outermost patches, 0 on them, in bounces; from a patch the walk stays or goes to one
    of its four neighbours, each as likely. The control for ``tr.tasks.saliency_map`` with "border".

    Args:
        source, reading: see ``tr.observe``.
    """
    observation = observe(source, **reading)
    return _placed(observation, bounces_to_border(*observation.grid))


def uniform_values(count: int, random: int = 0) -> Tensor:
    """``count`` values in [0, 1), float64; PyTorch's global random numbers are left alone.

    Raises:
        InputError: no whole number.
    """
    number = whole_number(random)
    if number is None:
        raise InputError(f"random = {random!r}, expected a whole number: the seed of the random numbers")
    generator = torch.Generator().manual_seed(number)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def centred_gaussian(grid: tuple[int, int], sigma: float = SIGMA) -> Tensor:
    """The bump at the patches of a grid (rows, columns): (P,) in float64, row by row.

    Raises:
        InputError: sigma is not a finite number above 0.
    """
    if isinstance(sigma, bool) or not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma = {sigma!r}, expected a fraction of the picture above 0, such as {SIGMA}")
    down, across = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / sigma for n in grid)
    return torch.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / 2).flatten()


def bounces_to_border(rows: int, columns: int) -> Tensor:
    """Expected bounces until the border of a grid, of the walk of ``lattice``: (P,) in float64, row by row."""
    down, across = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    near = (down[:, None] - down).abs() + (across[:, None] - across).abs() <= 1
    walk = AttentionChain(near / near.sum(-1, keepdim=True, dtype=torch.float64))
    return walk.hitting_times(border(rows, columns)).values


def _placed(observation: Observation, values: Tensor) -> TokenMap:
    """A map on the device where the attention is."""
    return observation.map(values.to(observation.head_chains(-1, "all").device))
