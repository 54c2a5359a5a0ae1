"""Pictures: a folder of image files, an .npz of bytes, or an array, as bytes on demand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import InputError, first_line, printable
from ...models import read_image
from ...untrusted import open_regular
from ..datasets.folder import IMAGES, check_folder, listing

Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Several pictures.

    Attributes:
        name: for messages.
        keys: one a picture.
        read: place → uint8 (H, W, 3).
        digest: place → hexadecimal digits that change with the picture.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[int], Bytes] = field(repr=False)
    digest: Callable[[int], str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)


def open_pictures(source: str | os.PathLike[str] | Bytes) -> Pictures:
    """Pictures of a folder in the order of their names, of an ``.npz`` as ADM's evaluator takes it, or of an array.

    Args:
        source: a folder; an ``.npz`` whose first array is uint8 (N, H, W, 3); such an array.

    Raises:
        InputError: nothing there, or something else.
    """
    if isinstance(source, np.ndarray):
        return _of_array(source, "the array")
    path = Path(source).expanduser()
    if path.suffix.lower() == ".npz":
        return _of_array(_first_array(path), printable(path))
    check_folder(path)
    files = listing(path, IMAGES)
    if not files:
        raise InputError(f"{printable(path)} holds no pictures; expected files such as 000000.png")
    return Pictures(
        printable(path),
        tuple(file.name for file in files),
        lambda place: np.asarray(read_image(files[place]), dtype=np.uint8),
        lambda place: _digest_of_file(files[place]),
    )


def _of_array(array: Bytes, name: str) -> Pictures:
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        raise InputError(f"{name} is {array.dtype} {array.shape}; expected uint8 (pictures, height, width, 3)")
    return Pictures(
        name,
        tuple(f"{place:06d}" for place in range(len(array))),
        lambda place: array[place],
        lambda place: hashlib.blake2b(np.ascontiguousarray(array[place]).tobytes(), digest_size=8).hexdigest(),
    )


def _first_array(path: Path) -> Bytes:
    try:
        with open_regular(path, "an .npz of pictures") as file, np.load(file, allow_pickle=False) as stored:
            return np.asarray(stored[stored.files[0]])
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"{printable(path)} cannot be read as .npz: {first_line(error)}; write it anew") from None


def _digest_of_file(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with open_regular(path, "a picture") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parts(pictures: Pictures, size: int) -> Iterator[Sequence[int]]:
    """Places, ``size`` at a time."""
    for begin in range(0, len(pictures), size):
        yield range(begin, min(begin + size, len(pictures)))
