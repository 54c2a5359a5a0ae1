"""Data sets with a class for every pixel: PASCAL VOC 2012, Cityscapes, COCO-Stuff, COCO panoptic."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ...errors import InputError, printable
from ...models import read_image
from .folder import IMAGES, FolderDataset, Pairs, by_key, find_layout, join, listing, pair_listed, read_keys, subfolders
from .masks import read_labels, same_size
from .sample import Labels, Sample

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_VOID = 255
_VOC_TREE = """
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

    classes = VOC_CLASSES

    def __init__(self, folder: Path, name: str = "voc2012", *, split: str = "val", single_class: bool = False) -> None:
        inside = ("JPEGImages", "SegmentationClass", f"ImageSets/Segmentation/{split}.txt")
        roots = ("", "VOC2012/", "VOCdevkit/VOC2012/")
        layouts = [tuple(root + part for part in inside) for root in roots]
        images, labels, keys = find_layout(folder, layouts, _VOC_TREE.format(split=split))
        pairs = pair_listed(read_keys(keys), listing(images, IMAGES), listing(labels, {".png"}))
        self._paths = pairs.paths
        self._single, self.options = single_class, {"single_class": single_class}
        super().__init__(name, folder, _of_one_class(pairs) if single_class else pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, stored = read_image(image_path), _read(label_path)
        same_size(stored, label_path, image, image_path)
        void = stored == VOC_VOID
        labels = np.where(void, -1, stored)
        if not self._single:
            return Sample(key, image, void=void, labels=labels)
        (found,) = _foreground(stored)
        return Sample(key, image, mask=labels > 0, void=void, labels=labels, word=VOC_CLASSES[found])

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]


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
    return [int(value) for value in np.unique(stored) if value not in (0, VOC_VOID)]


def _read(path: Path) -> Labels:
    stored = read_labels(path)
    wrong = stored[(stored >= len(VOC_CLASSES)) & (stored != VOC_VOID)]
    if wrong.size:
        raise InputError(f"{printable(path)} holds class {wrong.max()}, expected 0 … 20 or {VOC_VOID} (void)")
    return stored


CITYSCAPES_CLASSES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck",
    "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
CITYSCAPES_FIRST = 7  # ids below are void: ego vehicle, static, ground …
_CITY_IMAGE, _CITY_LABEL = "_leftImg8bit", "_gtFine_labelIds"
_CITYSCAPES_TREE = f"""
cityscapes/
  leftImg8bit/{{split}}/  frankfurt/  frankfurt_000000_000294{_CITY_IMAGE}.png …
  gtFine/{{split}}/       frankfurt/  frankfurt_000000_000294{_CITY_LABEL}.png …"""


class Cityscapes(FolderDataset):
    """Samples with ``labels`` 0 … 26 for the label ids 7 … 33, −1 for all others.

    Args:
        folder: that holds leftImg8bit and gtFine.
        name: of the data set.
        split: the folder in both.
    """

    classes = CITYSCAPES_CLASSES

    def __init__(self, folder: Path, name: str = "cityscapes", *, split: str = "val") -> None:
        layouts = [(f"leftImg8bit/{split}", f"gtFine/{split}")]
        images, labels = find_layout(folder, layouts, _CITYSCAPES_TREE.format(split=split))
        pairs = join(_ending(images, _CITY_IMAGE), _ending(labels, _CITY_LABEL), "label picture")
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, ids = read_image(image_path), read_labels(label_path)
        same_size(ids, label_path, image, image_path)
        labels = ids - CITYSCAPES_FIRST
        return Sample(key, image, labels=np.where((labels >= 0) & (labels < len(CITYSCAPES_CLASSES)), labels, -1))

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]


def _ending(folder: Path, ending: str) -> tuple[dict[str, Path], dict[str, str]]:
    """PNGs of all cities whose stem ends so, by the stem without it."""
    paths = [p for city in subfolders(folder) for p in listing(city, {".png"}) if p.stem.endswith(ending)]
    return by_key(paths, lambda path: path.stem.removesuffix(ending))


COCO_MEMBERS = MappingProxyType(
    {
        "electronic": "71-76",
        "appliance": "77-82",
        "food": "51-60",
        "furniture": "61-70",
        "indoor": "83-90",
        "kitchen": "43-50",
        "accessory": "25-32",
        "animal": "15-24",
        "outdoor": "9-14",
        "person": "0",
        "sports": "33-42",
        "vehicle": "1-8",
        "ceiling": "101-102",
        "floor": "100 113-117",
        "food-stuff": "120-121 152 169",
        "furniture-stuff": "97 106-107 109 111 122 129 132 155 160 164",
        "raw-material": "99 131 138 142",
        "textile": "91-92 103-104 108 130 136 140 151 166-167",
        "wall": "170-176",
        "window": "179-180",
        "building": "94-95 127 150 157 165",
        "ground": "110 124-125 135 139 143-144 146 148 153 158",
        "plant": "93 96 118 123 128 133 141 162 168",
        "sky": "105 156",
        "solid": "126 134 149 159 161 181",
        "structural": "98 112 137 145 163",
        "water": "119 147 154 177-178",
    }
)
"""Coarse class → numbers of its classes, with ranges as first-last.

The coarse classes are the supercategories of COCO's things and of the stuff hierarchy (Caesar et al., CVPR 2018).
Numbers are those in the PNGs: place in the official list of labels minus one, so person is 0 and wood 181; the eleven
that COCO no longer uses are kept. Provenance: [V] the membership and the order, read in public source that evaluates on
this list (a descendant of STEGO's), the membership checked against the official list of labels; [R] that IIC, PiCIE and
DiffSeg use the same order. The order changes no metric, since clusters are matched to classes.
"""

COCO_CLASSES: tuple[str, ...] = tuple(COCO_MEMBERS)


def _coarse_of_fine() -> npt.NDArray[np.int64]:
    coarse = np.full(182, -1, dtype=np.int64)
    for number, members in enumerate(COCO_MEMBERS.values()):
        for run in members.split():
            first, _, last = run.partition("-")
            coarse[int(first) : int(last or first) + 1] = number
    return coarse


COCO_COARSE = _coarse_of_fine()
"""(182,): the coarse class of every class."""

COCO_UNLABELLED = 255
_COCO_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_COCO_TREE = f"""
cocostuff/
  images/val2017/       (or val2017/)                 000000000139.jpg …
  annotations/val2017/  (or stuffthingmaps/val2017/)  000000000139.png …   (grey, 0 … 181 and 255)
  curated/val2017/{_COCO_LIST}   (or in curated/, or beside images/)"""
_COCO_LAYOUTS = tuple(
    product(
        ("images/val2017", "val2017"),
        ("annotations/val2017", "stuffthingmaps/val2017", "stuffthingmaps_trainval2017/val2017"),
        (f"curated/val2017/{_COCO_LIST}", f"curated/{_COCO_LIST}", _COCO_LIST),
    )
)


class CocoStuff27(FolderDataset):
    """Samples with ``labels`` 0 … 26 (``classes`` names them), −1 where unlabelled; see ``COCO_MEMBERS``.

    The images are those of the curated list of 2,175 validation images.
    """

    classes = COCO_CLASSES

    def __init__(self, folder: Path, name: str = "coco-stuff27") -> None:
        images, labels, keys = find_layout(folder, _COCO_LAYOUTS, _COCO_TREE)
        pairs = pair_listed(read_keys(keys), listing(images, IMAGES), listing(labels, {".png"}))
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, fine = read_image(image_path), read_labels(label_path)
        same_size(fine, label_path, image, image_path)
        wrong = fine[(fine >= len(COCO_COARSE)) & (fine != COCO_UNLABELLED)]
        if wrong.size:
            raise InputError(
                f"{printable(label_path)} holds class {wrong.max()}, expected 0 … {len(COCO_COARSE) - 1} or "
                f"{COCO_UNLABELLED}"
            )
        coarse = COCO_COARSE[np.minimum(fine, len(COCO_COARSE) - 1)]
        return Sample(key, image, labels=np.where(fine == COCO_UNLABELLED, -1, coarse))

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]


COCO_PANOPTIC_IDS = 200
_PANOPTIC_TREE = """
coco/
  images/  000000000009.jpg …
  masks/   000000000009.png …   (grey, category ids 1 … 200, 0 unlabelled)"""


class CocoPanoptic(FolderDataset):
    """Samples with ``labels`` 0 … 199, the panoptic category ids minus one, −1 where unlabelled.

    Things have ids up to 90, stuff from 92 on; instances of one class share their label.

    Args:
        folder: that holds images and masks.
        name: of the data set.
    """

    def __init__(self, folder: Path, name: str = "coco-panoptic") -> None:
        images, labels = find_layout(folder, [("images", "masks")], _PANOPTIC_TREE)
        pairs = join(by_key(listing(images, IMAGES)), by_key(listing(labels, {".png"})), "label picture")
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, label_path = self._paths[key]
        image, ids = read_image(image_path), read_labels(label_path)
        same_size(ids, label_path, image, image_path)
        if ids.max() > COCO_PANOPTIC_IDS:
            raise InputError(
                f"{printable(label_path)} holds category {ids.max()}, expected 1 … {COCO_PANOPTIC_IDS}, or 0 for "
                "unlabelled"
            )
        return Sample(key, image, labels=ids - 1)

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]
