"""BSDS500 (Arbeláez et al., PAMI 2011): photographs, each segmented by several people."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, first_line, printable
from ...models import read_image
from ...untrusted import check, read_bytes
from . import matlab5
from .folder import IMAGES, FolderDataset, check_folder, find_layout, listing, pair
from .masks import same_size
from .sample import Labels, Sample

_VARIABLE = "groundTruth"
_RESULT, _SORTING = 8, 48  # bytes for each label: of the result, and while one segmentation is sorted
_SPLITS = ("train", "val", "test")
_ROOTS = ("", "data/", "BSDS500/data/", "BSR/BSDS500/data/")
_TREE = """
BSDS500/data/
  images/       test/  100007.jpg …   (train/, val/; or all files without such folders)
  groundTruth/  test/  100007.mat …"""


class Bsds500(FolderDataset):
    """Samples with ``regions``, one segmentation per annotator, labels 1 … K without gaps.

    Args:
        folder: that holds images and groundTruth, or BSR, BSDS500 or data above them.
        name: of the data set.
        split: "train", "val" or "test"; None: "test" (the benchmark) where there are such folders, all files where
            there are none.
    """

    def __init__(self, folder: Path, name: str = "bsds500", *, split: str | None = None) -> None:
        images, truths = _folders(folder, split)
        pairs = pair(listing(images, IMAGES), listing(truths, {".mat"}), "segmentation")
        self._paths = pairs.paths
        super().__init__(name, folder, pairs.paths, pairs.problems)

    def _read(self, key: str) -> Sample:
        image_path, truth_path = self._paths[key]
        image, regions = read_image(image_path), read_regions(truth_path)
        for segmentation in regions:
            same_size(segmentation, truth_path, image, image_path)
        return Sample(key, image, regions=regions)

    def _files(self, key: str) -> tuple[Path, ...]:
        return self._paths[key]


def read_regions(path: Path) -> tuple[Labels, ...]:
    """Segmentations of all annotators from a MATLAB v5 file, (H, W) each, relabelled 1 … K in the order of labels.

    Raises:
        InputError: the file is broken, too large, or holds no cell array ``groundTruth`` of structs with
            ``Segmentation``.
    """
    name = printable(path)
    data = read_bytes(path, "a MATLAB v5 file")
    try:
        content, order = _ground_truth(data, name)
    except (matlab5.MalformedError, zlib.error) as error:
        raise InputError(
            f"{name} cannot be read as a MATLAB v5 file: {first_line(error)}; fetch it again, or save it with -v7"
        ) from None
    try:
        segmentations = matlab5.cells(content, order, "Segmentation")
    except matlab5.MalformedError as error:
        raise InputError(
            f"groundTruth of {name} is not a cell array of structs with Segmentation: {first_line(error)}"
        ) from None
    if not segmentations:
        raise InputError(f"groundTruth of {name} is empty, expected one segmentation at least")
    sizes = [segmentation.size for segmentation in segmentations]
    check(len(content) + _RESULT * sum(sizes) + _SORTING * max(sizes), name, f"{len(sizes)} segmentations")
    return tuple(_without_gaps(segmentation, name) for segmentation in segmentations)


def _ground_truth(data: bytes, name: str) -> tuple[memoryview, str]:
    """The content of the variable, and its order of bytes."""
    found: dict[str, tuple[memoryview, str, bool]] = {}
    for variable, content, order, compressed in matlab5.variables(data):
        if variable in found:
            raise matlab5.MalformedError(f"{printable(variable)} stands in it twice")
        found[variable] = content, order, compressed
    if _VARIABLE not in found:
        names = ", ".join(printable(variable)[1:-1] for variable in sorted(found)[:5]) or "nothing"
        raise InputError(f"{name} has no {_VARIABLE!r}; found: {names}")
    content, order, compressed = found[_VARIABLE]
    return matlab5.unpacked(content, order, name) if compressed else content, order


def _without_gaps(segmentation: Any, name: str) -> Labels:
    if segmentation.ndim != 2 or not segmentation.size:
        raise InputError(
            f"a Segmentation of {name} is {segmentation.dtype} {segmentation.shape}, expected numbers (rows, columns)"
        )
    if not np.isfinite(segmentation).all():
        raise InputError(f"a Segmentation of {name} holds NaN or infinite numbers, expected labels; fetch it again")
    # the shape of the inverse differs between versions of numpy
    inverse = np.unique(segmentation, return_inverse=True)[1].reshape(segmentation.shape)
    return np.asarray(inverse + 1, dtype=np.int64)


def _folders(folder: Path, split: str | None) -> tuple[Path, ...]:
    check_folder(folder)
    split_layouts = [(f"{root}images/{split or 'test'}", f"{root}groundTruth/{split or 'test'}") for root in _ROOTS]
    flat_layouts = [(f"{root}images", f"{root}groundTruth") for root in _ROOTS]
    for root in _ROOTS:
        there = [s for s in _SPLITS if (folder / root / "images" / s).is_dir()]
        if there and (split or "test") not in there:
            raise InputError(
                f"{printable(folder)} has no split {split or 'test'!r}; there is {', '.join(map(repr, there))}: "
                f"give split={there[0]!r}"
            )
        if there:
            return find_layout(folder, split_layouts, _TREE)
        if split is not None and (folder / root / "images").is_dir():
            raise InputError(
                f"{printable(folder)} has no folders of splits, so split={split!r} cannot be chosen; "
                f"expected {root}images/{split}, or no split to take all files"
            )
    return find_layout(folder, [*flat_layouts, *split_layouts] if split is None else split_layouts, _TREE)
