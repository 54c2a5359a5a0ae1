"""Gaussian blur of latents and of token grids, and the degraded input of Self-Attention Guidance."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ...denoisers.schedule import Level, Prediction, mixed, parts
from ...errors import InputError

KERNEL, SIGMA = 9, 1.0
"""Of Self-Attention Guidance (Hong et al. 2023), as diffusers has it for Stable Diffusion."""


def blur(x: Tensor, kernel: int = KERNEL, sigma: float = SIGMA) -> Tensor:
    """Pictures blurred by a Gaussian, their edges continued by reflection.

    Args:
        x: (…, rows, columns), of any size, also smaller than the kernel.
        kernel: width in cells, odd.
        sigma: standard deviation in cells; infinite for the mean over the whole picture.

    Returns:
        The same shape and dtype.

    Raises:
        InputError: a kernel that is not odd and positive, or a sigma that is not positive.
    """
    rows, columns = (smoothing(n, kernel, sigma).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.mT


def smoothing(count: int, kernel: int, sigma: float) -> Tensor:
    """The blur of one axis as a matrix (count, count) in float32, whose rows sum to one."""
    check_blur(kernel, sigma)
    return _matrix(int(count), int(kernel), float(sigma))


def check_blur(kernel: int, sigma: float) -> None:
    """Raise where these are no kernel and no standard deviation.

    Raises:
        InputError: as ``blur``.
    """
    if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
        raise InputError(f"kernel = {kernel!r}, expected an odd number of cells such as {KERNEL}")
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not sigma > 0:
        raise InputError(f"sigma = {sigma!r}, expected a standard deviation in cells above 0 such as {SIGMA}")


def degraded(
    x: Tensor,
    output: Tensor,
    mask: Tensor,
    level: Level,
    prediction: Prediction,
    kernel: int = KERNEL,
    sigma: float = SIGMA,
) -> Tensor:
    """Inputs of a denoiser whose clean picture is blurred where the mask is, with the noise that it predicted.

    Hong et al. 2023, section 4.2: the clean picture that the output implies is blurred, kept outside of the mask, and
    mixed with the very noise that the output implies.

    Args:
        x: (B, C, rows, columns), as the denoiser was given it.
        output: what it made of it, shaped alike.
        mask: (B, 1, m, n), 1 where to degrade; brought to the picture's size by nearest neighbours.
        level: of ``x``.
        prediction: kind of ``output``.
        kernel, sigma: of the blur.

    Returns:
        (B, C, rows, columns) in the dtype of ``x``.
    """
    clean, noise = parts(x, output, level, prediction)
    mask = functional.interpolate(mask.to(clean), x.shape[-2:])
    return mixed(mask * blur(clean, kernel, sigma) + (1 - mask) * clean, noise, level).to(x.dtype)


@lru_cache(maxsize=64)
def _matrix(count: int, kernel: int, sigma: float) -> Tensor:
    if math.isinf(sigma):
        return torch.full((count, count), 1.0 / count)
    offsets = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    shares = torch.exp(-0.5 * (offsets / sigma) ** 2)
    shares = shares / shares.sum()
    there = torch.arange(count)[:, None] + offsets.long()
    if count > 1:  # as often as the kernel passes an edge, …
        there = there.remainder(2 * count - 2)
        there = torch.where(there < count, there, 2 * count - 2 - there)
    else:  # … at which a single cell has nothing but itself
        there = torch.zeros_like(there)
    matrix = torch.zeros(count, count, dtype=torch.float64)
    return matrix.scatter_add_(1, there, shares.expand(count, -1)).float()
