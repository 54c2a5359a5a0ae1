"""Arrays of .npz files, read without believing the sizes that they claim."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from ..errors import InputError, first_line, printable
from .checks import as_tensor

_MOST = 1032  # a byte of DEFLATE never stands for more bytes than that


def read_npz(path: Path) -> dict[str, Tensor]:
    """Arrays by name, in the order of the file.

    Raises:
        InputError: no .npz, a damaged one, one with pickled objects, one that claims to be larger
            than its bytes can be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members, path.stat().st_size)
            return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}
    except InputError:
        raise
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"it is no .npz file, or a damaged one: {first_line(error)}; write it with np.savez"
        ) from error


def _check(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [m.filename for m in members]
    if any(name.endswith((".pkl", "/version", "/byteorder")) for name in names):
        raise InputError(
            "it is a file of torch.save, which may run code when it is read; load it yourself, torch.load(path, "
            "weights_only=True), and pass it to tr.from_query_key or tr.from_attentions"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"it has the array {printable(twice)} twice, expected each name once; the file is damaged")
    packed = sum(m.compress_size for m in members)
    if packed > size:
        raise InputError(f"its arrays claim {packed} bytes, expected at most the file's {size}; the file is damaged")
    for m in members:
        if not m.filename.endswith(".npy"):
            raise InputError(f"it holds {printable(m.filename)}, expected arrays (.npy); write it with np.savez")
        if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{printable(m.filename)} is compressed in a way that np.savez does not use; write it again"
            )
        if m.file_size > _MOST * m.compress_size + 64:
            raise InputError(
                f"{printable(m.filename)} claims {m.file_size} bytes, expected at most {_MOST * m.compress_size + 64} "
                f"from the {m.compress_size} that are there; the file is damaged"
            )


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    what = printable(member.filename)
    with archive.open(member) as file:
        shape, dtype = _header(file)
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > member.file_size:
            raise InputError(
                f"{what} claims an array of {claimed} bytes, expected at most the {member.file_size} that are there; "
                "the file is damaged"
            )
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to the end, where the archive's own checksum is compared
    return as_tensor(array, what)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InputError("it holds pickled objects, which may run code when read; save plain arrays of numbers")
    return shape, dtype
