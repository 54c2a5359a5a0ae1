"""COCO-Stuff with 27 coarse classes, on the curated list of 2,175 validation images."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from ...errors import InputError, printable
from ...models import read_image
from .coco_stuff_classes import CLASSES, COARSE
from .files import IMAGES, listing, pair_listed, read_keys
from .folder import FolderDataset, find_layout
from .pictures import read_labels, same_size
from .sample import Sample

UNLABELLED = 255
_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_TREE = f"""
cocostuff/
  images/val2017/       (or val2017/)                 000000000139.jpg …
  annotations/val2017/  (or stuffthingmaps/val2017/)  000000000139.png …   (grey, 0 … 181 and 255)
  curated/val2017/{_LIST}   (or in curated/, or beside images/)"""
_LAYOUTS = tuple(
    product(
        ("images/val2017", "val2017"),
        ("annotations/val2017", "stuffthingmaps/val2017", "stuffthingmaps_trainval2017/val2017"),
        (f"curated/val2017/{_LIST}", f"curated/{_LIST}", _LIST),
    )
)


class CocoStuff27(FolderDataset):
    """Samples with ``labels`` 0 … 26 (``classes`` names them), −1 where unlabelled; see ``coco_stuff_classes``."""

    classes = CLASSES

    def __init__(self, folder: Path, name: str = "coco-stuff27") -> None:
        images, labels, keys = find_layout(folder, _LAYOUTS, _TREE)
        pairs = pair_listed(read_keys(keys), listing(images, IMAGES), listing(labels, {".png"}))
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, fine = read_image(image_path), read_labels(label_path)
        same_size(fine, label_path, image, image_path)
        wrong = fine[(fine >= len(COARSE)) & (fine != UNLABELLED)]
        if wrong.size:
            raise InputError(
                f"{printable(label_path)} holds class {wrong.max()}, expected 0 … {len(COARSE) - 1} or {UNLABELLED}"
            )
        return Sample(key, image, labels=np.where(fine == UNLABELLED, -1, COARSE[np.minimum(fine, len(COARSE) - 1)]))
