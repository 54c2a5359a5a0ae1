"""Records into one safetensors file."""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError, first_line, printable
from ..layout import TokenLayout
from ..models.windows import Windows
from ..recording import AttentionRecord, Forward
from ..recording.quiet import Unnoticed
from . import manifest
from .checks import as_tensor, check_query_key, check_shape
from .stored import Stored

KEY = "tokenrank"


def write(
    records: Sequence[AttentionRecord],
    stored: Sequence[Stored],
    layout: TokenLayout | Literal[False] | None,
    opaque: Mapping[str, int],
    path: str | os.PathLike[str],
) -> None:
    """Write records, their names, forward calls and layouts into one safetensors file.

    An older file of that name is replaced, in one step when the new one is complete. Tensors that
    records share are written once.

    Args:
        records: one at least; on any device, of any floating type.
        stored: what is known of the tokens of each.
        layout: of all of them by hand, False for none, None where it is found.
        opaque: name → calls of kernels that hid their attention.
        path: as it is; ".safetensors" is usual, and not added.

    Raises:
        InputError: a folder that does not exist or cannot be written, a full disk, records of the
            device "meta".
    """
    with Unnoticed():
        tensors, description = _parts(records, stored, layout, opaque)
        try:
            target = Path(os.path.realpath(path))
        except (TypeError, ValueError) as error:
            raise InputError(f"cannot save {path!r}: {first_line(error)}; give the path of a file") from None
        if not target.parent.is_dir():
            raise InputError(
                f"cannot save {printable(path)}: the folder {printable(target.parent)} does not exist; make it first"
            )
        if target.is_dir():
            raise InputError(f"cannot save {printable(path)}: it is a folder, expected the name of a file")
        # beside the target, so that renaming never crosses file systems
        unfinished = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.unfinished")
        try:
            _write(tensors, manifest.dump(description), unfinished)
            unfinished.replace(target)
        except Exception as error:
            raise InputError(f"cannot save {printable(path)}: {first_line(error)}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _write(tensors: Mapping[str, Tensor], description: str, path: Path) -> None:
    from safetensors.torch import save_file

    # opened here first: nobody else's file is overwritten, and permissions are those of any new file
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    save_file(dict(tensors), path, metadata={KEY: description})
    path.chmod(mode)
    with path.open("rb+") as file:
        os.fsync(file.fileno())  # a rename that outlives a power failure must not lead to an empty file


def _parts(
    records: Sequence[AttentionRecord],
    stored: Sequence[Stored],
    layout: TokenLayout | Literal[False] | None,
    opaque: Mapping[str, int],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what the file says of them."""
    if not records:
        raise InputError("a trace without records, expected one at least; capture something before it is saved")
    tensors: dict[str, Tensor] = {}
    names: dict[Any, str] = {}
    used: set[int] = set()
    forwards: list[Forward] = []
    layouts: list[Any] = []
    windows: list[tuple[Windows, dict[str, Any]]] = []
    entries = []
    for number, (record, tokens) in enumerate(zip(records, stored, strict=True)):
        where = f"record {number} ({printable(record.name)})"
        names_of = {}
        _check(record, where)
        for part, tensor in record.tensors.items():
            key = _identity(tensor)
            if key not in names:
                names[key] = f"{number}.{part}"
                tensors[names[key]] = _plain(tensor, used)
            names_of[part] = names[key]
        entry = {
            "name": record.name,
            "module": record.module,
            "kind": record.kind,
            "index": record.index,
            "forward": _place(forwards, record.forward),
            "scale": float(record.scale),
            "is_causal": record.is_causal,
            "tensors": names_of,
        }
        entry |= _tokens(tokens, layouts, windows, tensors)
        entries.append(entry)
    return tensors, {
        "version": manifest.VERSION,
        "records": entries,
        "forwards": [manifest.forward_to_json(forward) for forward in forwards],
        "layouts": layouts,
        "windows": [entry for _, entry in windows],
        "layout": manifest.layout_to_json(layout) if layout else layout,
        "opaque": dict(opaque),
        "tensors": {name: summary(tensor) for name, tensor in tensors.items()},
    }


def _check(record: AttentionRecord, where: str) -> None:
    for part, tensor in record.tensors.items():
        as_tensor(tensor, f"{part} of {where}")
    if record.weights is not None:
        check_shape(record.weights, f"weights of {where}")
    if record.q is not None and record.k is not None:
        check_query_key(record.q, record.k, record.scale, record.mask, record.sinks, where, finite=False)


def _tokens(
    stored: Stored,
    layouts: list[Any],
    windows: list[tuple[Windows, dict[str, Any]]],
    tensors: dict[str, Tensor],
) -> dict[str, Any]:
    """What is known of a record's tokens, as numbers of ``layouts`` and ``windows``, which grow."""
    entry: dict[str, Any] = {} if stored.batch_size is None else {"batch_size": stored.batch_size}
    if stored.layout is None:
        return entry
    found = {"error": stored.layout} if isinstance(stored.layout, str) else manifest.layout_to_json(stored.layout)
    stand = stored.windows
    entry["layout"] = _place(layouts, found)
    if stand is not None:
        entry["windows"] = next((i for i, (known, _) in enumerate(windows) if known is stand), len(windows))
        if entry["windows"] == len(windows):
            name = f"windows.{len(windows)}"
            tensors[name] = stand.index.detach().cpu().clone(memory_format=torch.contiguous_format)
            shift = None if stand.shift is None else list(stand.shift)
            layout_number = _place(layouts, manifest.layout_to_json(stand.layout))
            windows.append((stand, {"index": name, "layout": layout_number, "shift": shift, "heads": stand.heads}))
    return entry


def _place(entries: list[Any], entry: Any) -> int:
    """The number of ``entry`` in ``entries``, to which it is added where it is missing."""
    if entry not in entries:
        entries.append(entry)
    return entries.index(entry)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """The same for tensors that are the same numbers in the same memory."""
    return (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())


def _plain(tensor: Tensor, used: set[int]) -> Tensor:
    """On the CPU, contiguous, with memory that no other tensor of the file has; copied only where it must be."""
    tensor = tensor.detach().as_subclass(Tensor).resolve_neg().cpu()
    memory = tensor.untyped_storage()
    if tensor.is_contiguous() and memory.nbytes() == tensor.nbytes and memory.data_ptr() not in used:
        used.add(memory.data_ptr())
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def summary(tensor: Tensor) -> dict[str, Any]:
    """dtype, shape and CRC-32 of a contiguous tensor on the CPU."""
    numbers = tensor.reshape(-1).view(torch.uint8).numpy()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(tensor.shape), "crc32": zlib.crc32(memoryview(numbers.data))}
