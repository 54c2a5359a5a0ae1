"""Pictures from files, PIL, numpy and torch, as upright RGB; each bad one gets an error in one line."""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
from PIL import UnidentifiedImageError
from torch import Tensor

from ..errors import InputError, first_line, nearest, neighbours, printable

ImageSource: TypeAlias = "str | bytes | os.PathLike[str] | PIL.Image.Image | npt.NDArray[np.generic] | Tensor"
"""What ``read_image`` takes: a path, a PIL image, a numpy array or a tensor."""
_SHRINK = "shrink it first, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
_CHANNELS = (1, 3, 4)
_ROUNDING = 1e-4  # far below half of 1/255, so it never changes a byte


def read_image(source: ImageSource) -> PIL.Image.Image:
    """A picture as an upright RGB image.

    Args:
        source: a path (``bytes`` for one that is not UTF-8); a PIL image; an array of (H, W),
            (H, W, C) or (C, H, W) with 1, 3 or 4 channels: ``uint8``, ``uint16``, ``bool``, or floats
            from 0 to 1; a tensor likewise, or (1, C, H, W).

    What becomes of unusual pictures: EXIF rotation is applied (an unreadable EXIF block counts as
    none); transparency is composited on white; 16-bit greyscale is divided by 257, so that full white
    stays white; palettes, CMYK, YCbCr and Lab are converted; of several frames the first is taken. No
    picture is too small or too narrow: a model's preprocessing gives each side one patch at least.

    Raises:
        InputError: the file is missing, empty, truncated, a folder, not a picture that Pillow reads,
            or larger than ``PIL.Image.MAX_IMAGE_PIXELS``; an array of a wrong shape, type or range.
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
    return _from_file(Path(os.fsdecode(source)))


def is_pixels(value: object) -> bool:
    """Whether an input of a module looks like pictures that are prepared: floats (B, C, H, W)."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4


def _from_file(path: Path) -> PIL.Image.Image:
    name = printable(path)
    _check_regular(path, name)
    try:
        # The limit on pixels is checked below, in one place, as an error; so no warning beside it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            opened = PIL.Image.open(path)
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture that Pillow can read; convert it to PNG or JPEG") from None
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"{name} is too large: {first_line(error)}; {_SHRINK}") from None
    except Exception as error:  # decoders raise anything on broken files
        raise InputError(f"{name} cannot be opened: {first_line(error)}; check the file") from error
    with opened as picture:
        _check_pixels(picture, name)
        return _upright_rgb(picture, name)


def _check_regular(path: Path, name: str) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        names = neighbours(path)
        if path.parent.is_dir():
            hint = f"in its folder, {nearest(path.name, names)}" if names else "its folder is empty"
        else:
            hint = f"there is no folder {printable(path.parent)} either"
        raise InputError(f"no file {name}; {hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{name} cannot be read: {reason}; give the path of a picture") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a folder; give the path of one picture in it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is not a regular file; give the path of a picture")
    if status.st_size == 0:
        raise InputError(f"{name} is empty (0 bytes); the download or copy may have failed, fetch it again")


def _check_pixels(picture: PIL.Image.Image, name: str) -> None:
    pixels, most = picture.width * picture.height, PIL.Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise InputError(
            f"{name} is too large: {picture.width:,} × {picture.height:,} = {pixels:,} pixels, "
            f"at most {most:,}; {_SHRINK}"
        )


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
