"""Files of other programs: the arrays of an .npz, and named arrays as records."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line, nearest, printable
from ..recording import AttentionRecord, Forward
from ..untrusted import check
from ..untrusted.regular import occupied
from .checks import as_scale, as_tensor, check_query_key, check_weights

FIELDS = ("q", "k", "scale", "mask", "is_causal", "sinks")

_NAME = re.compile(r"(?:(?P<name>.*)[./_])?(?P<part>q|k|v|scale|mask|is_causal|sinks|weights|attn)", re.DOTALL)
_ENTRY = 16  # bytes of memory that a byte of a directory becomes, at most
_ENDS = 2**16 + 128  # bytes at the end in which an archive says where its directory is
_MOST = 1032  # a byte of DEFLATE never stands for more bytes than that


def records_of(arrays: Mapping[str, Tensor]) -> tuple[AttentionRecord, ...]:
    """Records from arrays named "NAME.q" and "NAME.k", "NAME.weights" or "NAME"; see ``load_trace``.

    Raises:
        InputError: nothing there, q without k, both q, k and weights, or no attention.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in arrays.items():
        name, part = _split(key)
        if part in groups.setdefault(name, {}):
            raise InputError(f"{printable(key)} gives {part} of {printable(name)} a second time, expected it once")
        groups[name][part] = tensor
    groups = {name: parts for name, parts in groups.items() if parts.keys() != {"v"}}
    if not groups:
        raise InputError("it has no arrays, expected NAME.q and NAME.k, or NAME.weights")
    forward = Forward(0)
    return tuple(_record(name, parts, i, forward) for i, (name, parts) in enumerate(groups.items()))


def _split(key: str) -> tuple[str, str]:
    match = _NAME.fullmatch(key)
    if match is None:
        return key, "weights"
    return match["name"] or "", "weights" if match["part"] == "attn" else match["part"]


def _record(name: str, parts: Mapping[str, Tensor], place: int, forward: Forward) -> AttentionRecord:
    what = f"attention {printable(name)}"
    if "weights" in parts:
        others = parts.keys() - {"weights", "v"}
        if others:
            raise InputError(f"{what} has weights and {sorted(others)} too, expected weights alone, or q and k")
        check_weights(parts["weights"], what)
        return AttentionRecord(name, "", "weights", place, forward, weights=parts["weights"])
    entry: dict[str, Any] = {key: parts[key] for key in FIELDS if key in parts}
    missing = [key for key in ("q", "k") if key not in entry]
    if missing:
        names = ", ".join(printable(f"{name}.{key}") for key in missing)
        raise InputError(f"{what} has only {sorted(parts)}, expected {names} too, or NAME.weights")
    if "is_causal" in entry:
        entry["is_causal"] = _flag(entry["is_causal"], what)
    return query_key_record(name, entry, place, forward)


def _flag(tensor: Tensor, what: str) -> bool:
    if tensor.numel() != 1 or tensor.dtype not in (torch.bool, torch.uint8, torch.int32, torch.int64):
        raise InputError(f"is_causal of {what} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected one bool")
    return bool(tensor.item())


def query_key_record(name: str, entry: Any, place: int, forward: Forward) -> AttentionRecord:
    """The record of queries and keys: a pair of them, or a mapping with ``FIELDS``.

    Raises:
        InputError: other fields, types or shapes that do not fit each other, NaN or infinite numbers.
    """
    what = f"attention {printable(name)}"
    fields = _fields(entry, what)
    q, k = (as_tensor(fields[key], f"{key} of {what}") for key in ("q", "k"))
    mask, sinks = (
        None if fields.get(key) is None else as_tensor(fields[key], f"{key} of {what}") for key in ("mask", "sinks")
    )
    scale = as_scale(fields.get("scale"), q.shape[-1] if q.ndim else 0, what)
    is_causal = fields.get("is_causal", False)
    if not isinstance(is_causal, bool):
        raise InputError(f"is_causal of {what} is {is_causal!r}, expected True or False")
    check_query_key(q, k, scale, mask, sinks, what)
    return AttentionRecord(name, "", "sdpa", place, forward, q, k, scale, mask, is_causal, sinks)


def _fields(entry: Any, what: str) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        for key in entry:
            if key not in FIELDS:
                raise InputError(f"{what} has an unknown entry {key!r}; {nearest(str(key), FIELDS, len(FIELDS))}")
        missing = [key for key in ("q", "k") if key not in entry]
        if missing:
            raise InputError(f"{what} has {sorted(entry)} and no {' and no '.join(missing)}; give both q and k")
        return entry
    if isinstance(entry, tuple | list) and len(entry) == 2:
        return {"q": entry[0], "k": entry[1]}
    count = f" of {len(entry)}" if isinstance(entry, tuple | list) else ""
    raise InputError(
        f"{what} is a {type(entry).__name__}{count}, expected a pair (q, k), or a mapping with {', '.join(FIELDS)}"
    )


def read_npz(file: BinaryIO) -> dict[str, Tensor]:
    """Arrays by name, in the order of the file, which is open.

    Raises:
        InputError: no .npz, a damaged one, one with pickled objects, one that claims to be larger
            than its bytes can be, or larger than the budget.
    """
    status = os.fstat(file.fileno())
    try:
        _check_directory(file, status.st_size, occupied(status))
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, status.st_size)
            claimed = sum(m.file_size for m in members)
            check(claimed, "it", f"{claimed:,} bytes of arrays: {len(members):,}", occupied(status))
            return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}
    except InputError:
        raise
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"it is no .npz file, or a damaged one: {first_line(error)}; write it with np.savez"
        ) from error


def _check_directory(file: BinaryIO, size: int, disk: int) -> None:
    """Hold the archive's directory to the budget: all of it becomes objects before anything else is looked at."""
    file.seek(max(0, size - _ENDS))
    end = file.read()
    file.seek(0)
    place, wide = end.rfind(b"PK\x05\x06"), end.rfind(b"PK\x06\x06")
    if place < 0 or place + 16 > len(end):
        return  # zipfile says what is missing
    (length,) = struct.unpack_from("<I", end, place + 12)
    if length == 0xFFFFFFFF and 0 <= wide <= len(end) - 48:
        (length,) = struct.unpack_from("<Q", end, wide + 40)
    check(_ENTRY * length, "it", f"a directory of {length:,} bytes", disk)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
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
