"""Records into one safetensors file."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, LayoutError, first_line, printable
from ..layout import LayoutChoice, TokenLayout, Windows
from ..recording import AttentionRecord
from ..recording.quiet import Unnoticed
from ..writing import write_whole
from . import manifest
from .checks import as_tensor, check_query_key, check_shape

KEY = "tokenrank"


@dataclass(frozen=True)
class Contents:
    """What one file with attention holds.

    Attributes:
        records: one at least; on any device, of any floating type.
        opaque: name → calls of kernels that hid their attention.
        layout: of all records by hand, False for none, None where each has its own.
    """

    records: tuple[AttentionRecord, ...]
    opaque: Mapping[str, int] = field(default_factory=dict)
    layout: LayoutChoice = None


def write_records(contents: Contents, path: str | os.PathLike[str]) -> None:
    """Write records, their names, forward calls and layouts into one safetensors file.

    An older file of that name is replaced, in one step when the new one is complete. Tensors that
    records share are written once.

    Args:
        contents: what to write.
        path: as it is; ".safetensors" is usual, and not added. Where it is a link of yours, the file that it leads to
            is written.

    Raises:
        InputError: a folder that does not exist or cannot be written, a full disk, records of the
            device "meta".
    """
    from safetensors.torch import save_file

    with Unnoticed():
        tensors, description = _described(contents)
        target, text = _target(path), manifest.dump(description)
        try:
            write_whole(target, lambda unfinished: save_file(tensors, unfinished, metadata={KEY: text}), follow=True)
        except Exception as error:
            raise InputError(f"cannot save {printable(path)}: {first_line(error)}") from error


def _target(path: str | os.PathLike[str]) -> Path:
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
    return target


def _described(contents: Contents) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what the file says of them."""
    if not contents.records:
        raise InputError("a trace without records, expected one at least; capture something before it is saved")
    writer = _Writer()
    entries = [writer.entry(number, record) for number, record in enumerate(contents.records)]
    return writer.tensors, {
        "version": manifest.VERSION,
        "records": entries,
        "forwards": writer.forwards.entries,
        "layouts": writer.layouts.entries,
        "windows": writer.windows.entries,
        "layout": manifest.choice_to_json(contents.layout),
        "opaque": dict(contents.opaque),
        "tensors": {name: summary(tensor) for name, tensor in writer.tensors.items()},
    }


class _Numbered:
    """Entries that records share, each once; records name them by number."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._sources: list[Any] = []  # kept, so that their ids stay their own

    def number(self, source: Any, entry: Callable[[], Any]) -> int:
        """The number of the entry of ``source``, which ``entry`` makes when it is the first of it."""
        if id(source) not in self._numbers:
            made = entry()
            self._numbers[id(source)] = len(self.entries)
            self._sources.append(source)
            self.entries.append(made)
        return self._numbers[id(source)]

    def equal(self, entry: Any) -> int:
        """The number of the entry that equals ``entry``."""
        key = json.dumps(entry)
        if key not in self._numbers:
            self._numbers[key] = len(self.entries)
            self.entries.append(entry)
        return self._numbers[key]


class _Writer:
    """Turns records into entries; the tensors, forward calls, layouts and windows that they share are kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.forwards, self.layouts, self.windows = _Numbered(), _Numbered(), _Numbered()
        self._names: dict[Any, str] = {}
        self._used: set[int] = set()

    def entry(self, number: int, record: AttentionRecord) -> dict[str, Any]:
        """What the file says of one record."""
        _check(record, f"record {number} ({printable(record.name)})")
        return {
            "name": record.name,
            "module": record.module,
            "kind": record.kind,
            "index": record.index,
            "forward": self.forwards.number(record.forward, lambda: manifest.forward_to_json(record.forward)),
            "scale": float(record.scale),
            "is_causal": record.is_causal,
            "tensors": {part: self._tensor(f"{number}.{part}", t) for part, t in record.tensors.items()},
            **self._tokens(record),
        }

    def _tensor(self, name: str, tensor: Tensor) -> str:
        """The name under which a tensor is written: that of an earlier one where it is the same."""
        key = _identity(tensor)
        if key not in self._names:
            self._names[key] = name
            self.tensors[name] = _plain(tensor, self._used)
        return self._names[key]

    def _tokens(self, record: AttentionRecord) -> dict[str, Any]:
        entry: dict[str, Any] = {} if record.batch_size is None else {"batch_size": record.batch_size}
        if record.layout is not None:
            entry["layout"] = self._layout(record.layout)
        if record.windows is not None:
            windows = record.windows
            entry["windows"] = self.windows.number(windows, lambda: self._windows(windows))
        if record.texts:
            entry["texts"] = [self._layout(text) for text in record.texts]
        if any(record.sides):
            entry["sides"] = [None if side is None else self._layout(side) for side in record.sides]
        return entry

    def _layout(self, layout: TokenLayout | LayoutError) -> int:
        """The number of a layout, or of the reason why there is none."""
        if isinstance(layout, LayoutError):
            return self.layouts.equal({"error": str(layout)})
        return self.layouts.equal(manifest.layout_to_json(layout))

    def _windows(self, windows: Windows) -> dict[str, Any]:
        name = f"windows.{len(self.windows.entries)}"
        self.tensors[name] = windows.index.detach().cpu().clone(memory_format=torch.contiguous_format)
        shift = None if windows.shift is None else list(windows.shift)
        return {"index": name, "layout": self._layout(windows.layout), "shift": shift, "heads": windows.heads}


def _check(record: AttentionRecord, where: str) -> None:
    for part, tensor in record.tensors.items():
        as_tensor(tensor, f"{part} of {where}")
    if record.weights is not None:
        check_shape(record.weights, f"weights of {where}")
    if record.q is not None and record.k is not None:
        check_query_key(record.q, record.k, record.scale, record.mask, record.sinks, where, finite=False)


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
