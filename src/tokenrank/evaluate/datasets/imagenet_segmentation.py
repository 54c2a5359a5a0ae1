"""ImageNet-Segmentation (Guillaumin et al., IJCV 2014): one MATLAB v7.3 file, read picture by picture.

The file is HDF5, read in a process apart (``untrusted/parsers/parse_hdf5.py``). ``/value`` is a struct array, whose
fields ``img``, ``gt`` and ``id`` are tables of references, one a picture. MATLAB stores columns first, so every array
is transposed. A mask is one reference further, in a cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from ...components import Mask
from ...errors import InputError, first_line, printable
from ...untrusted import check, check_regular, installed
from ...untrusted.apart import RefusedError, ask, of_file
from .folder import FolderDataset, check_folder, read_lines, wrong_folder
from .masks import same_size
from .sample import Sample

_FILE = "gtsegs_ijcv.mat"
_KEY = 128  # bytes for the key of an entry, in a tuple and a set
_FIELDS = ("img", "gt", "id")
_WORDS = "words.txt"
_TREE = f"""
FOLDER/
  {_FILE}   (MATLAB v7.3; or give the file itself)"""
_NAMED_TREE = f"""
FOLDER/
  {_FILE}   (MATLAB v7.3)
  {_WORDS}           (of ImageNet: a line a synset, n02084071, tab, dog, domestic dog, …)"""


class ImageNetSegmentation(FolderDataset):
    """Samples with ``mask`` and ``word``, the id of the WordNet synset such as ``n02084071``.

    Keys are the places in the file, from ``00000``. There is no ``target``: some synsets are not among ILSVRC's 1,000.

    Args:
        folder: that holds the file, or the file.
        name: of the data set.
        named: ``word`` is the first name of the synset instead ("dog"), from ImageNet's ``words.txt`` beside the file.
    """

    def __init__(self, folder: Path, name: str = "imagenet-segmentation", *, named: bool = False) -> None:
        self._file = _find(folder) if folder.is_dir() or not folder.exists() else folder
        self._names, self.options = _synset_names(self._file.parent) if named else None, {"named": named}
        count = self._count()
        super().__init__(name, folder, (f"{i:05d}" for i in range(count)), {})

    def _count(self) -> int:
        """Number of pictures; InputError unless the file has the three fields with one entry each."""
        name = printable(self._file)
        try:
            (told, _) = self._ask("count", name)
        except RefusedError as error:
            raise InputError(
                f"{name} is not a whole MATLAB v7.3 (HDF5) file: {first_line(error)}; fetch it again"
            ) from None
        counts = told["counts"]
        missing = [field for field in _FIELDS if field not in counts]
        if missing:
            found = ", ".join(printable(entry)[1:-1] for entry in sorted(told["names"])[:10]) or "nothing"
            raise InputError(
                f"{name} has no /value/{missing[0]}, expected the struct array 'value' with img, gt and id as in "
                f"{_FILE}; found: {found}"
            )
        if len(set(counts.values())) != 1:
            raise InputError(f"{name} has {counts} entries, expected as many of each")
        check(_KEY * counts["img"], name, f"{counts['img']:,} entries")
        return int(counts["img"])

    def _read(self, key: str) -> Sample:
        index = int(key)
        name = f"entry {index} of {printable(self._file)}"
        try:
            told, blobs = self._ask("entry", name, index=index)
        except RefusedError as error:
            raise InputError(f"{name} cannot be read: {first_line(error)}; fetch it again") from None
        pixels, mask = (
            np.frombuffer(blob, np.dtype(dtype)).reshape(shape)
            for blob, (dtype, shape) in zip(blobs, told["arrays"], strict=True)
        )
        image, foreground = self._image(pixels, index), self._mask(mask, index)
        same_size(foreground, f"mask {index} of {self._file.name}", image, f"image {index}")
        return Sample(key, image, mask=foreground, word=self._word(told["word"], index))

    def _word(self, synset: str, index: int) -> str:
        if self._names is None:
            return synset
        if synset not in self._names:
            raise InputError(f"image {index} of {printable(self._file)} is of {synset}, which {_WORDS} does not name")
        return self._names[synset]

    def _files(self, key: str) -> tuple[Path, ...]:
        return (self._file,)

    def _ask(self, question: str, name: str, **arguments: Any) -> Any:
        check_regular(self._file, "a MATLAB v7.3 file")
        installed("h5py", "evaluate")
        return ask("hdf5", question, name, path=of_file(self._file), **arguments)

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


def _synset_names(folder: Path) -> dict[str, str]:
    """Synset → its first name."""
    if not (folder / _WORDS).is_file():
        raise wrong_folder(folder, f"lacks {_WORDS!r}", _NAMED_TREE, lambda other: (other / _WORDS).is_file())
    names = {}
    for line in read_lines(folder / _WORDS):
        synset, tab, words = line.partition("\t")
        if not tab:
            raise InputError(f"{printable(folder / _WORDS)} has a line without a tab, {line[:40]!r}; fetch it again")
        names[synset] = words.split(",")[0].strip()
    return names


def _find(folder: Path) -> Path:
    check_folder(folder)
    if not (folder / _FILE).is_file():
        raise wrong_folder(folder, f"lacks {_FILE!r}", _TREE, lambda other: (other / _FILE).is_file())
    return folder / _FILE
