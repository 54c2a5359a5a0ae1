"""ImageNet-Segmentation (Guillaumin et al., IJCV 2014): one MATLAB v7.3 file, read picture by picture.

The file is HDF5. ``/value`` is a struct array, whose fields ``img``, ``gt`` and ``id`` are tables of references, one a
picture. MATLAB stores columns first, so every array is transposed. A mask is one reference further, in a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from ...components import Mask
from ...errors import InputError, first_line, printable, require
from .folder import FolderDataset, check_folder, wrong_folder
from .masks import same_size
from .sample import Sample

_FILE = "gtsegs_ijcv.mat"
_FIELDS = ("img", "gt", "id")
_TREE = f"""
FOLDER/
  {_FILE}   (MATLAB v7.3; or give the file itself)"""


class ImageNetSegmentation(FolderDataset):
    """Samples with ``mask`` and ``word``, the id of the WordNet synset such as ``n02084071``.

    Keys are the places in the file, from ``00000``. There is no ``target``: some synsets are not among ILSVRC's 1,000.
    """

    def __init__(self, folder: Path, name: str = "imagenet-segmentation") -> None:
        self._file = folder if folder.is_file() else _find(folder)
        count = self._count()
        super().__init__(name, folder, (f"{i:05d}" for i in range(count)), {})

    def _count(self) -> int:
        """Number of pictures; InputError unless the file has the three fields with one entry each."""
        name = printable(self._file)
        with self._open() as file:
            try:
                missing = [field for field in _FIELDS if f"value/{field}" not in file]
                found = ", ".join(sorted(str(entry) for entry in file)) or "nothing"
                counts = {field: int(file[f"value/{field}"].size) for field in _FIELDS if field not in missing}
            except Exception as error:  # h5py raises anything on broken files
                raise InputError(f"{name} is broken: {first_line(error)}; fetch it again") from error
        if missing:
            raise InputError(
                f"{name} has no /value/{missing[0]}, expected the struct array 'value' with img, gt and id as in "
                f"{_FILE}; found: {found}"
            )
        if len(set(counts.values())) != 1:
            raise InputError(f"{name} has {counts} entries, expected as many of each")
        return counts["img"]

    def _read(self, key: str) -> Sample:
        index = int(key)
        with self._open() as file:
            try:
                pixels = np.asarray(self._entry(file, "img", index))
                mask = np.asarray(file[self._entry(file, "gt", index)[()].flat[0]])
                word = "".join(chr(code) for code in np.asarray(self._entry(file, "id", index)).flat)
            except Exception as error:  # h5py raises anything on broken files
                raise InputError(
                    f"entry {index} of {printable(self._file)} cannot be read: {first_line(error)}; fetch it again"
                ) from error
        image, foreground = self._image(pixels, index), self._mask(mask, index)
        same_size(foreground, f"mask {index} of {self._file.name}", image, f"image {index}")
        return Sample(key, image, mask=foreground, word=word)

    def _image(self, pixels: Any, index: int) -> PIL.Image.Image:
        if pixels.ndim == 2:  # grey
            return PIL.Image.fromarray(self._bytes(pixels.T, index)).convert("RGB")
        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise InputError(
                f"image {index} of {printable(self._file)} has shape {pixels.shape}, expected (3, columns, rows)"
            )
        return PIL.Image.fromarray(self._bytes(pixels.transpose(2, 1, 0), index))

    def _bytes(self, pixels: Any, index: int) -> Any:
        if pixels.dtype != np.uint8:
            raise InputError(f"image {index} of {printable(self._file)} is {pixels.dtype}, expected uint8")
        return np.ascontiguousarray(pixels)

    def _mask(self, mask: Any, index: int) -> Mask:
        if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
            raise InputError(
                f"mask {index} of {printable(self._file)} has shape {mask.shape} and values up to {mask.max()}, "
                "expected (columns, rows) of 0 and 1"
            )
        return np.ascontiguousarray(mask.T) != 0

    def _entry(self, file: Any, field: str, index: int) -> Any:
        """What the reference in a field's table leads to."""
        table = file[f"value/{field}"]
        # (count, 1), or (1, count) as some writers have it
        return file[table[(index, 0) if table.shape[0] > 1 else (0, index)] if table.ndim == 2 else table[index]]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        # opened anew each time: an HDF5 handle does not survive a fork
        h5py = require("h5py", "evaluate")
        try:
            file = h5py.File(self._file, "r")
        except OSError as error:
            raise InputError(
                f"{printable(self._file)} is not a whole MATLAB v7.3 (HDF5) file: {first_line(error)}; fetch it again"
            ) from None
        with file:
            yield file


def _find(folder: Path) -> Path:
    check_folder(folder)
    if not (folder / _FILE).is_file():
        raise wrong_folder(folder, f"lacks {_FILE!r}", _TREE, lambda other: (other / _FILE).is_file())
    return folder / _FILE
