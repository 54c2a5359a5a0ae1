"""Masks, label pictures and encoded bytes; each broken one gets an error that names it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import UnidentifiedImageError

from ...errors import InputError, first_line, printable
from ...models import read_image
from .sample import Mask


def decode(source: Path | bytes, name: str) -> PIL.Image.Image:
    """A picture as stored, decoded in full.

    Raises:
        InputError: ``source`` is missing, empty, truncated or not a picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            picture.load()
            return picture
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture that Pillow can read; fetch it again") from None
    except Exception as error:  # decoders raise anything on broken files
        raise InputError(f"{name} is broken or missing: {first_line(error)}; fetch it again") from error


def image_from_bytes(data: bytes, name: str) -> PIL.Image.Image:
    """An upright RGB picture from the bytes of a JPEG, PNG …"""
    return read_image(decode(data, name))


def read_mask(path: Path) -> Mask:
    """Foreground, (H, W): brighter than 127 of 255. Masks that are all foreground or all background pass.

    Raises:
        InputError: the file is broken; has transparency, of which it is unclear what it means; or holds 0 and 1 in
            place of 0 and 255, which would all be background.
    """
    name = printable(path)
    picture = decode(path, name)
    if picture.mode in ("LA", "PA", "RGBA"):
        if picture.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"mask {name} has transparency, expected opaque black and white; flatten it")
        picture = picture.convert("RGB")
    if picture.mode == "1":
        return np.asarray(picture).astype(np.bool_)
    if picture.mode.startswith("I"):
        values, most = np.asarray(picture).astype(np.int64), 257 * 127
    else:
        values, most = np.asarray(picture.convert("L")).astype(np.int64), 127
    if values.max() == 1:
        raise InputError(f"mask {name} holds 0 and 1, expected 0 (background) and 255 (foreground); multiply it by 255")
    return np.asarray(values > most)


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Numbers of the classes, (H, W), as stored: indices of a palette, or grey values.

    Raises:
        InputError: the file is broken, or coloured without a palette.
    """
    name = printable(path)
    picture = decode(path, name)
    if picture.mode not in ("P", "L", "I;16", "I"):
        raise InputError(
            f"label picture {name} has colour mode {picture.mode}, expected class numbers: grey (L) or palette (P); "
            "use the original PNG"
        )
    return np.asarray(picture).astype(np.int64)


def same_size(array: npt.NDArray[Any], path: Path | str, image: PIL.Image.Image, image_path: Path | str) -> None:
    """Raises InputError, with both sizes, unless ``array`` (H, W) fits ``image``."""
    height, width = array.shape
    if (width, height) != image.size:
        raise InputError(
            f"{printable(path)} is {width} × {height} pixels, its image {printable(image_path)} "
            f"{image.width} × {image.height}; expected equal sizes"
        )
