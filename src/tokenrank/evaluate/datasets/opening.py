"""Data sets by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InputError, NotFoundError, nearest
from .bsds500 import Bsds500
from .classified import ImageNetFolder, ParquetShards
from .folder import FolderDataset
from .imagenet_segmentation import ImageNetSegmentation
from .label_pictures import Cityscapes, CocoPanoptic, CocoStuff27, Voc2012
from .masks import MaskFolder
from .sample import Dataset

_FORMATS: dict[str, Callable[..., FolderDataset]] = {
    "ecssd": partial(MaskFolder, name="ecssd"),
    "duts": partial(MaskFolder, name="duts"),
    "dut-omron": partial(MaskFolder, name="dut-omron"),
    "folder": MaskFolder,
    "imagenet-segmentation": ImageNetSegmentation,
    "voc2012": Voc2012,
    "coco-stuff27": CocoStuff27,
    "coco-panoptic": CocoPanoptic,
    "cityscapes": Cityscapes,
    "bsds500": Bsds500,
    "imagenet-folder": ImageNetFolder,
    "parquet": ParquetShards,
}
DATASETS = tuple(_FORMATS)
"""Names that ``open_dataset`` knows."""


def open_dataset(name: str, folder: str | os.PathLike[str], **options: Any) -> Dataset:
    """A data set in its published file format.

    Args:
        name: one of ``DATASETS``. ``"folder"`` takes any images and masks of your own.
        folder: that holds it; nothing is downloaded.
        options: ``split`` of voc2012, cityscapes, bsds500 and parquet; ``single_class`` of voc2012;
            ``inclusive_boxes`` of parquet. See the classes.

    Raises:
        NotFoundError: no data set of that name.
        InputError: a folder of another shape; says what is missing and draws what was expected. An option that the
            data set does not have.
        MissingExtraError: a reader of the format is not installed.
    """
    if name not in _FORMATS:
        raise NotFoundError(f"no data set {name!r}; {nearest(str(name), DATASETS)}")
    make = _FORMATS[name]
    known = [
        p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "name"
    ]
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "none"
            raise InputError(f"data set {name!r} has no option {option!r}; its options: {takes}")
    return make(Path(folder).expanduser(), **options)
