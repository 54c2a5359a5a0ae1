"""Maps drawn to the edges of their picture, each by a well-kept library."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, require
from ..models.images import ImageSource, read_image

Values = npt.NDArray[np.floating]


def guided(
    image: ImageSource, values: npt.ArrayLike, radius: int = 16, eps: float = 1e-4, subsample: int | None = None
) -> Values:
    """The guided filter: around every pixel, the map as a linear function of the picture's colours.

    He, Sun and Tang, "Guided image filtering", TPAMI 2013, with kornia; windows are averaged on a coarser grid as in
    the fast guided filter (He and Sun 2015), while the edges are those of the whole picture.

    Args:
        image: the picture, (H, W) as the values; see ``read_image``.
        values: (H, W), finite floats.
        radius: of the windows in pixels; about the size of a patch. It is rounded to a multiple of ``subsample``.
        eps: how much the colours must vary, as the square of the picture's scale from 0 to 1, to count as an edge.
        subsample: every how many pixels windows are evaluated; radius / 4 where None, as its authors advise. 1 is the
            exact filter; s shifts what is smooth by (s − 1) / 2 pixels, since the coarse grid takes the first of s.

    Returns:
        (H, W) in the type of ``values`` (float64 for integers), within their range: what the linear function
        overshoots is clipped.

    Raises:
        InputError: values that are not finite or not (H, W), or a radius, eps or subsample that is not positive.
        MissingExtraError: kornia is not installed.
    """
    picture, values = _checked(image, values)
    if radius < 1 or not 0 < eps < float("inf"):
        raise InputError(f"radius = {radius!r}, eps = {eps!r}; expected a radius of 1 pixel at least and eps > 0")
    step = max(1, radius // 4) if subsample is None else subsample
    if not 1 <= step <= radius:
        raise InputError(f"subsample = {subsample!r}, expected 1 to the radius, {radius}")
    low, high = values.min(), values.max()
    if low == high:
        return values.copy()
    blur = require("kornia.filters", "refine").guided_blur
    scaled = torch.from_numpy((values - low) / (high - low)).float()[None, None]
    guide = torch.from_numpy(picture).float().permute(2, 0, 1)[None]
    # an odd number of coarse cells, so that the window is centred; borders repeat, so that any size will do
    width = 2 * step * round(radius / step) + 1
    found = blur(guide, scaled, width, eps, border_type="replicate", subsample=step)[0, 0].double().numpy()
    return np.clip(low + found * (high - low), low, high).astype(values.dtype)


# "bf" is a sparse direct solve: exact, where scikit-image's conjugate gradients stop after a fixed few steps
_WALK: dict[str, Any] = {"mode": "bf", "channel_axis": -1, "return_full_prob": True}


def random_walk(
    image: ImageSource,
    values: npt.ArrayLike,
    foreground: float = 0.1,
    background: float = 0.4,
    beta: float = 130.0,
) -> Values:
    """The probability that a walk which shuns edges reaches the top of the map before its bottom.

    Grady, "Random walks for image segmentation", TPAMI 2006, with scikit-image: pixels of the largest and smallest
    values are certain, the others are decided by the picture alone.

    Args:
        image: the picture, (H, W) as the values; see ``read_image``.
        values: (H, W), finite floats.
        foreground: share of the pixels, those of largest values, that are certain; more where values are equal.
        background: share of those of smallest values.
        beta: how much an edge slows the walk.

    Returns:
        (H, W), float64, from 0 to 1; 0.5 is where the two sides meet. A constant map says nothing: 0.5 everywhere.

    Raises:
        InputError: values that are not finite or not (H, W), or shares that are not positive or exceed 1 together.
        MissingExtraError: scikit-image is not installed.
    """
    picture, values = _checked(image, values)
    if not (foreground > 0 and background > 0 and foreground + background <= 1):
        raise InputError(
            f"foreground = {foreground!r}, background = {background!r}; expected shares > 0 that sum to 1 at most"
        )
    if values.min() == values.max():
        return np.full(values.shape, 0.5)
    bottom = np.quantile(values, background, method="lower")
    bottom = min(bottom, values[values < values.max()].max())  # the top is never certain background
    top = max(np.quantile(values, 1 - foreground, method="higher"), values[values > bottom].min())
    certain = np.zeros(values.shape, dtype=np.int64)
    certain[values <= bottom], certain[values >= top] = 2, 1
    if certain.all():
        return (certain == 1).astype(np.float64)
    walker = require("skimage.segmentation", "refine").random_walker
    found = walker(picture, certain, beta=beta, **_WALK)[0]
    return np.clip(np.asarray(found, dtype=np.float64), 0, 1)


def _checked(image: ImageSource, values: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], Values]:
    """The picture (H, W, 3) from 0 to 1, and values of the same size."""
    picture = np.asarray(read_image(image), dtype=np.float64) / 255
    found = np.asarray(values)
    if not np.issubdtype(found.dtype, np.floating):
        found = found.astype(np.float64)
    if found.shape != picture.shape[:2]:
        raise InputError(
            f"values have shape {found.shape}, expected {picture.shape[:2]}: the picture's (H, W); upsample them first"
        )
    if not np.isfinite(found).all():
        raise InputError(f"{int((~np.isfinite(found)).sum())} of {found.size} values are NaN or infinite")
    return picture, found
