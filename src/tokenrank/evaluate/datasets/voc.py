"""PASCAL VOC 2012 segmentation: palette PNGs with 20 classes, background 0 and void 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import InputError, printable
from ...models import read_image
from .files import IMAGES, Pairs, listing, pair_listed, read_keys
from .folder import FolderDataset, find_layout
from .pictures import read_labels, same_size
from .sample import Labels, Sample

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255
_TREE = """
VOCdevkit/VOC2012/
  JPEGImages/               2007_000033.jpg …
  SegmentationClass/        2007_000033.png …   (palette, 0 … 20 and 255)
  ImageSets/Segmentation/   {split}.txt"""


class Voc2012(FolderDataset):
    """Samples with ``labels`` (0 background … 20, −1 void) and ``void`` (the outlines).

    Args:
        folder: VOCdevkit's parent, VOCdevkit, or VOC2012.
        name: of the data set.
        split: which list of ImageSets/Segmentation.
        single_class: keep only images with one class besides background and void, as the protocols of single-class
            segmentation do; the sample then has ``mask`` and ``word`` too. Decodes all label pictures at opening.
            Images of several classes are left out by choice, so they are not in ``problems``.

    There is no ``target``: VOC's numbers are no output of an ImageNet classifier.
    """

    classes = CLASSES

    def __init__(self, folder: Path, name: str = "voc2012", *, split: str = "val", single_class: bool = False) -> None:
        inside = ("JPEGImages", "SegmentationClass", f"ImageSets/Segmentation/{split}.txt")
        roots = ("", "VOC2012/", "VOCdevkit/VOC2012/")
        layouts = [tuple(root + part for part in inside) for root in roots]
        images, labels, keys = find_layout(folder, layouts, _TREE.format(split=split))
        pairs = pair_listed(read_keys(keys), listing(images, IMAGES), listing(labels, {".png"}))
        self._paths = pairs.paths
        self._single = single_class
        super().__init__(name, folder, _of_one_class(pairs) if single_class else pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, stored = read_image(image_path), _read(label_path)
        same_size(stored, label_path, image, image_path)
        void = stored == VOID
        labels = np.where(void, -1, stored)
        if not self._single:
            return Sample(key, image, void=void, labels=labels)
        (found,) = _foreground(stored)
        return Sample(key, image, mask=labels > 0, void=void, labels=labels, word=CLASSES[found])


def _of_one_class(pairs: Pairs) -> list[str]:
    """Keys of the images with one foreground class; broken label pictures become problems."""
    keys = []
    for key, (_, path) in pairs.paths.items():
        try:
            if len(_foreground(_read(path))) == 1:
                keys.append(key)
        except InputError as error:
            pairs.problems[key] = str(error)
    return keys


def _foreground(stored: Labels) -> list[int]:
    return [int(value) for value in np.unique(stored) if value not in (0, VOID)]


def _read(path: Path) -> Labels:
    stored = read_labels(path)
    wrong = stored[(stored >= len(CLASSES)) & (stored != VOID)]
    if wrong.size:
        raise InputError(f"{printable(path)} holds class {wrong.max()}, expected 0 … 20 or {VOID} (void)")
    return stored
