"""Pictures from files, PIL, numpy and torch, as upright RGB; each bad one gets an error in one line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
from torch import Tensor

from ..errors import InputError, first_line, printable
from .decoding import decoded, header

ImageSource: TypeAlias = "str | bytes | os.PathLike[str] | PIL.Image.Image | npt.NDArray[np.generic] | Tensor"
"""What ``read_image`` takes: a path, a PIL image, a numpy array or a tensor."""
_TURNED = 5  # of the orientations of EXIF; from here on the sides are exchanged
_CHANNELS = (1, 3, 4)
_DARKEST = 4_096  # 16-bit numbers below it are seldom of a dark picture, and mostly 8 to 12 bits in a wider type
_ROUNDING = 1e-4  # far below half of 1/255, so it never changes a byte


def read_image(source: ImageSource) -> PIL.Image.Image:
    """A picture as an upright RGB image.

    Args:
        source: a path (``bytes`` for one that is not UTF-8); a PIL image; an array of (H, W),
            (H, W, C) or (C, H, W) with 1, 3 or 4 channels: ``uint8``, ``uint16``, ``bool``, or floats
            from 0 to 1; a tensor likewise, or (1, C, H, W).

    What becomes of unusual pictures: EXIF rotation is applied (an unreadable EXIF block counts as
    none); transparency is composited on white; 16-bit greyscale is divided by 257, so that full white
    stays white; palettes, CMYK, YCbCr and Lab are converted; of several frames the first is taken. Numbers of
    16 bits that stay below 4,096 are refused, since they are 8 to 12 bits in a wider type. No
    picture is too small or too narrow: a model's preprocessing gives each side one patch at least.

    Raises:
        InputError: the file is missing, empty, truncated, a folder, a pipe or device, of a format that is not read
            (PNG, JPEG, WebP, GIF, BMP, PPM, TIFF, JPEG 2000, AVIF, TGA, ICO, PCX, SGI are), or larger than
            ``tr.reading_budget`` or ``PIL.Image.MAX_IMAGE_PIXELS`` allows; an array of a wrong shape, type or range.
    """
    if isinstance(source, PIL.Image.Image):
        return _upright_rgb(source, "picture")
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        return array_to_picture((tensor.float() if tensor.is_floating_point() else tensor).numpy(), "tensor")
    if isinstance(source, np.ndarray):
        return array_to_picture(source, "array")
    if not isinstance(source, str | bytes | os.PathLike):
        raise InputError(
            f"picture of type {type(source).__name__}; expected a path, a PIL image, a numpy array or a tensor"
        )
    path = Path(os.fsdecode(source))
    return _upright_rgb(decoded(path, printable(path)), printable(path))


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of the upright picture in a file, from its header: nothing is decoded.

    Raises:
        InputError: the file is missing, or its header cannot be read; of what is broken further on nothing is known.
    """
    told = header(Path(path))
    width, height = told.size
    return (height, width) if told.turn >= _TURNED else (width, height)


def is_pixels(value: object) -> bool:
    """Whether an input of a module looks like pictures that are prepared: floats (B, C, H, W)."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4


def _upright_rgb(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if not picture.width or not picture.height:
        raise InputError(f"{name} has {picture.width} × {picture.height} pixels; expected one at least")
    try:
        picture.load()
    except Exception as error:
        raise InputError(f"{name} is broken or truncated: {first_line(error)}; fetch it again") from error
    # Broken metadata leaves the pixels intact, and says of no rotation.
    with contextlib.suppress(Exception):
        picture = PIL.ImageOps.exif_transpose(picture)
    return _to_rgb(picture, name)


def _to_rgb(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return PIL.Image.fromarray(greyscale_to_bytes(np.asarray(picture), name)).convert("RGB")
    try:
        if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
            opaque = picture.convert("RGBA")
            white = PIL.Image.new("RGBA", opaque.size, "white")
            return PIL.Image.alpha_composite(white, opaque).convert("RGB")
        return picture.convert("RGB")
    except Exception as error:
        raise InputError(f"{name} has colour mode {mode}, which Pillow cannot turn into RGB; convert it") from error


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


def _likely_bits(brightest: int) -> str:
    bits = next(bits for bits in (8, 10, 12) if brightest < 2**bits)
    return f"as {bits}-bit numbers: by {65_535 / (2**bits - 1):.4g}"


def _bytes(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        brightest = int(values.max())
        if 0 < brightest < _DARKEST:
            raise InputError(
                f"{name} holds 16-bit numbers up to {brightest} only, where white is 65535: it would be nearly black; "
                f"multiply its numbers ({_likely_bits(brightest)}), or save it with 8 bits"
            )
        return np.rint(values / 257).astype(np.uint8)
    if values.dtype.kind != "f":
        raise InputError(
            f"{name} of type {values.dtype} as a picture; expected uint8, uint16, bool, or floats from 0 to 1; "
            "convert it"
        )
    wild = int(np.count_nonzero(~np.isfinite(values)))
    if wild:
        raise InputError(
            f"{name} holds {wild} of {values.size} numbers that are NaN or infinite; expected floats from 0 to 1; "
            "say what they are to be (numpy.nan_to_num), or look for where they come from"
        )
    low, high = float(values.min()), float(values.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(
            f"{name} holds floats from {low:g} to {high:g}; expected 0 to 1; divide by the value of white, "
            "and undo any normalisation"
        )
    return np.rint(values * 255).astype(np.uint8)
