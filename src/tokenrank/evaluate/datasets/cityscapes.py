"""Cityscapes with the 27 classes of unsupervised segmentation (label ids 7 … 33)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...models import read_image
from .files import by_key, join, listing
from .folder import FolderDataset, find_layout, subfolders
from .pictures import read_labels, same_size
from .sample import Sample

CLASSES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck",
    "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
FIRST = 7  # ids below are void: ego vehicle, static, ground …
_IMAGE, _LABEL = "_leftImg8bit", "_gtFine_labelIds"
_TREE = f"""
cityscapes/
  leftImg8bit/{{split}}/  frankfurt/  frankfurt_000000_000294{_IMAGE}.png …
  gtFine/{{split}}/       frankfurt/  frankfurt_000000_000294{_LABEL}.png …"""


class Cityscapes(FolderDataset):
    """Samples with ``labels`` 0 … 26 for the label ids 7 … 33, −1 for all others.

    Args:
        folder: that holds leftImg8bit and gtFine.
        name: of the data set.
        split: the folder in both.
    """

    classes = CLASSES

    def __init__(self, folder: Path, name: str = "cityscapes", *, split: str = "val") -> None:
        layouts = [(f"leftImg8bit/{split}", f"gtFine/{split}")]
        images, labels = find_layout(folder, layouts, _TREE.format(split=split))
        pairs = join(_ending(images, _IMAGE), _ending(labels, _LABEL), "label picture")
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, ids = read_image(image_path), read_labels(label_path)
        same_size(ids, label_path, image, image_path)
        labels = ids - FIRST
        return Sample(key, image, labels=np.where((labels >= 0) & (labels < len(CLASSES)), labels, -1))


def _ending(folder: Path, ending: str) -> tuple[dict[str, Path], dict[str, str]]:
    """PNGs of all cities whose stem ends so, by the stem without it."""
    paths = [p for city in subfolders(folder) for p in listing(city, {".png"}) if p.stem.endswith(ending)]
    return by_key(paths, lambda path: path.stem.removesuffix(ending))
