"""Masks: reading pictures, masks and label pictures; data sets of images and masks in two folders, such as ECSSD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ...components import Mask
from ...errors import InputError, printable
from ...models import read_image
from ...models.decoding import decoded
from .folder import IMAGES, MASKS, FolderDataset, RelativePaths, find_layout, listing, pair
from .sample import Sample


def image_from_bytes(data: bytes, name: str) -> PIL.Image.Image:
    """An upright RGB picture from the bytes of a JPEG, PNG …"""
    return read_image(decoded(data, name))


def read_mask(path: Path) -> Mask:
    """Foreground, (H, W): brighter than 127 of 255. Masks that are all foreground or all background pass.

    Raises:
        InputError: the file is broken; has transparency, of which it is unclear what it means; or holds 0 and 1 in
            place of 0 and 255, which would all be background.
    """
    name = printable(path)
    picture = decoded(path, name)
    if picture.mode in ("LA", "PA", "RGBA"):
        if picture.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"mask {name} has transparency, expected opaque black and white; flatten it")
        picture = picture.convert("RGB")
    if picture.mode == "1":
        return np.asarray(picture).astype(np.bool_)
    if picture.mode.startswith("I"):
        values, most = np.asarray(picture), 257 * 127
    else:
        values, most = np.asarray(picture.convert("L")), 127
    if values.max() == 1:
        raise InputError(f"mask {name} holds 0 and 1, expected 0 (background) and 255 (foreground); multiply it by 255")
    return np.asarray(values > most)  # one byte a pixel, as the values of eight bits


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Numbers of the classes, (H, W), as stored: indices of a palette, or grey values.

    Raises:
        InputError: the file is broken, or coloured without a palette.
    """
    name = printable(path)
    picture = decoded(path, name)
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


_OWN: RelativePaths = ("images", "masks")
_LAYOUTS: dict[str, tuple[tuple[RelativePaths, ...], str]] = {
    "folder": (
        (_OWN,),
        """
FOLDER/
  images/  a.jpg  b.jpg …
  masks/   a.png  b.png …""",
    ),
    "ecssd": (
        (_OWN, ("images", "ground_truth_mask")),
        """
ECSSD/
  images/                          0001.jpg …
  ground_truth_mask/ (or masks/)   0001.png …""",
    ),
    "duts": (
        (
            ("DUTS-TE-Image", "DUTS-TE-Mask"),
            ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"),
            _OWN,
        ),
        """
DUTS-TE/
  DUTS-TE-Image/ (or images/)   ILSVRC2012_test_00000003.jpg …
  DUTS-TE-Mask/  (or masks/)    ILSVRC2012_test_00000003.png …""",
    ),
    "dut-omron": (
        (("DUT-OMRON-image", "pixelwiseGT-new-PNG"), _OWN),
        """
DUT-OMRON/
  DUT-OMRON-image/     (or images/)   im005.jpg …
  pixelwiseGT-new-PNG/ (or masks/)    im005.png …""",
    ),
}


class MaskFolder(FolderDataset):
    """Images and masks of the same stem; the sample has ``mask``, brighter than 127 of 255.

    Images without a mask, masks without an image and stems with two images are listed in ``problems``.
    """

    def __init__(self, folder: Path, name: str = "folder") -> None:
        layouts, tree = _LAYOUTS[name]
        images, masks = find_layout(folder, layouts, tree)
        pairs = pair(listing(images, IMAGES), listing(masks, MASKS))
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, mask_path = self._paths[key]
        image, mask = read_image(image_path), read_mask(mask_path)
        same_size(mask, mask_path, image, image_path)
        return Sample(key, image, mask=mask)

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]
