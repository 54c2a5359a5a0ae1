"""Heat: numbers as colours, and over a picture; the one path from a map to what is seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import InputError, NotFoundError, nearest

Floats: TypeAlias = npt.NDArray[np.float64]
Ends: TypeAlias = tuple[float, float]
"""The values that get the first and the last colour."""
Scale: TypeAlias = Literal["each", "shared"]
"""Whether several maps have a colour scale each, or one together, so that they can be compared."""

COLOURS = "magma"
ACCENT = "#5b2a86"  # of curves, bars and outlines beside maps; stands in evaluate/report/page.css, too
OPACITY = 0.65  # of the map over the grey picture
GREY = 0.55  # of what has no number
CLIP = (1, 99)
"""Percentiles of a map's token values that become the ends of its colour scale."""


def ends_of(values: npt.NDArray[np.floating]) -> Ends:
    """The ``CLIP`` percentiles of the finite values; the smallest and the largest where these are nearly equal."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, CLIP)
    if _same(low, high):  # nearly all equal: a few tokens may still stand out
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def scales(maps: Sequence[npt.NDArray[np.floating]], scale: Scale = "each") -> list[Ends]:
    """The ends of every map's colours: its own, or those of all maps together.

    Raises:
        InputError: another scale.
    """
    if scale not in get_args(Scale):
        expected = "'each' (every map from its own percentiles) or 'shared' (one scale for all)"
        raise InputError(f"scale = {scale!r}, expected {expected}")
    if scale == "shared" and maps:
        return [ends_of(np.concatenate([values.ravel() for values in maps]))] * len(maps)
    return [ends_of(values) for values in maps]


def shares(values: npt.NDArray[np.floating], ends: Ends) -> Floats:
    """Values to 0 … 1 between two ends; 0.5 everywhere where the ends are equal, no number where there is none."""
    low, high = ends
    if _same(low, high):
        return np.where(np.isfinite(values), 0.5, np.nan)
    clipped = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.where(np.isfinite(values), clipped, np.nan)


def scaled(values: npt.NDArray[np.floating], of: npt.NDArray[np.floating] | None = None) -> Floats:
    """Values to 0 … 1, from the ``CLIP`` percentiles of ``of`` (the values themselves by default).

    Each map has its own scale: after one bounce and after eight the same token may hold a
    hundred times less, and shapes are what is compared. A constant map becomes 0.5.
    """
    return shares(values, ends_of(values if of is None else of))


def coloured(share: npt.NDArray[np.floating], colours: str = COLOURS) -> Floats:
    """Numbers 0 … 1 as RGB, (…, 3); grey where there is no number.

    Raises:
        NotFoundError: no colour map of that name.
    """
    import matplotlib

    if colours not in matplotlib.colormaps:
        raise NotFoundError(f"no colour map {colours!r}; {nearest(colours, matplotlib.colormaps)}")
    known = np.isfinite(share)
    rgb = np.asarray(matplotlib.colormaps[colours](np.where(known, share, 0.0)), dtype=np.float64)[..., :3]
    return np.where(np.asarray(known)[..., None], rgb, GREY)


def enlarged(grid: Tensor, size: tuple[int, int]) -> Floats:
    """A map (rows, columns) at ``size`` = (height, width), cubic; in squares where a patch has no finite number."""
    values = grid.detach().double().cpu()
    mode = "bicubic" if bool(torch.isfinite(values).all()) else "nearest"
    options = {"align_corners": False} if mode == "bicubic" else {}
    large: Floats = F.interpolate(values[None, None], size, mode=mode, **options)[0, 0].numpy()
    return large


def heat_over(
    picture: Image.Image,
    grid: Tensor,
    size: tuple[int, int],
    ends: Ends | None = None,
    colours: str = COLOURS,
    opacity: float = OPACITY,
) -> Floats:
    """A map over its picture in grey: RGB, 0 … 1, (height, width, 3).

    Args:
        picture: of any size.
        grid: (rows, columns), a number a patch.
        size: (height, width) in pixels.
        ends: of the colours; the map's own ``CLIP`` percentiles by default.
        colours: a perceptual matplotlib colour map.
        opacity: of the map, 0 … 1.

    Raises:
        NotFoundError: no colour map of that name.
    """
    grey = np.asarray(picture.convert("L").resize(size[::-1], Image.Resampling.LANCZOS)) / 255
    ends = ends_of(grid.detach().double().cpu().numpy()) if ends is None else ends
    # cut to the scale before it is enlarged: a cubic rings around peaks far beyond it
    share = enlarged(torch.from_numpy(shares(grid.detach().double().cpu().numpy(), ends)), size)
    colour = coloured(np.clip(share, 0, 1), colours)
    return opacity * colour + (1 - opacity) * grey[..., None]


def as_image(rgb: Floats) -> Image.Image:
    """RGB from 0 to 1 as a PIL image."""
    return Image.fromarray(np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _same(low: float, high: float) -> bool:
    return bool(high - low <= 1e-6 * max(abs(high), 1e-30))
