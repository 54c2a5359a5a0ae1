"""Arrays as pictures: the numbers must say themselves what white is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..errors import InputError

_CHANNELS = (1, 3, 4)
_ROUNDING = 1e-4  # far below half of 1/255, so it never changes a byte


def array_to_picture(array: npt.NDArray[Any], name: str) -> PIL.Image.Image:
    """An RGB picture from (H, W), (H, W, C), (C, H, W) or (1, C, H, W) numbers.

    ``uint8`` as it is, ``uint16`` divided by 257, ``bool`` as black and white, floats from 0 to 1. A
    fourth channel is opacity, composited on white. Where both ends could be the channels, the last
    one is.

    Raises:
        InputError: another shape or type, floats outside 0 … 1, or not finite.
    """
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in _CHANNELS or not array.size:
        raise InputError(
            f"{name} of shape {tuple(shape)} as a picture; expected (height, width), (height, width, channels) "
            "or (channels, height, width) with 1, 3 or 4 channels, and one pixel at least"
        )
    pixels = _bytes(array, name)
    if pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    if pixels.shape[-1] == 4:
        opaque = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        white = PIL.Image.new("RGBA", opaque.size, "white")
        return PIL.Image.alpha_composite(white, opaque).convert("RGB")
    return PIL.Image.fromarray(np.ascontiguousarray(pixels))


def greyscale_to_bytes(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Greyscale (H, W) of a PIL image of mode I;16, I or F as bytes.

    Whole numbers count as 16-bit (divided by 257, not clipped), floats as 0 to 1.

    Raises:
        InputError: values outside that range.
    """
    if values.dtype.kind in "iu" and values.dtype != np.uint16:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65_535:
            raise InputError(
                f"{name} holds whole numbers from {low} to {high}; expected 0 to 65535 (16-bit greyscale); rescale it"
            )
        values = values.astype(np.uint16)
    return _bytes(values, name)


def _bytes(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if values.dtype.kind != "f":
        raise InputError(
            f"{name} of type {values.dtype} as a picture; expected uint8, uint16, bool, or floats from 0 to 1; "
            "convert it"
        )
    low, high = float(values.min()), float(values.max())
    if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:  # false for NaN too
        raise InputError(
            f"{name} holds floats from {low:g} to {high:g}; expected 0 to 1; divide by the value of white, "
            "and undo any normalisation"
        )
    return np.rint(values * 255).astype(np.uint8)
