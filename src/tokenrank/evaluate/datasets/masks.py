"""Images with binary masks in two folders: ECSSD, DUTS-TE, DUT-OMRON, or your own."""

from __future__ import annotations

from pathlib import Path

from ...models import read_image
from .files import IMAGES, MASKS, listing, pair
from .folder import FolderDataset, Parts, find_layout
from .pictures import read_mask, same_size
from .sample import Sample

_OWN: Parts = ("images", "masks")
_LAYOUTS: dict[str, tuple[tuple[Parts, ...], str]] = {
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
