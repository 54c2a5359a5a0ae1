"""Records out of a file: what was saved, or what another program wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import InputError, LayoutError, first_line, nearest, printable
from ..layout import TokenLayout, Windows
from ..recording import AttentionRecord
from ..recording.quiet import Unnoticed
from ..untrusted import check, open_regular
from ..untrusted.regular import occupied
from . import manifest
from .checks import check_query_key, check_shape
from .foreign import read_npz, records_of
from .write import KEY, Contents, summary

_EXPECTED = (
    "expected what trace.save(path) writes, or .npz or .safetensors with arrays NAME.q and NAME.k, or NAME.weights"
)
_JSON = 64  # bytes of memory that a byte of JSON becomes, at most: an empty list takes two of these
_OTHERS = {b"\x93NUMPY": "a single array; save it with a name, np.savez(path, name=array)"}


def read_records(path: str | os.PathLike[str], device: torch.device | str | None = None) -> Contents:
    """What ``write_records`` wrote, or attention that another program saved; see ``tr.load_trace``.

    Args:
        path: of the file; what it is, is told from its contents.
        device: where to put the tensors; the CPU by default.

    Raises:
        InputError: no such file, another kind of file, a damaged one (every tensor of a saved trace has
            a checksum), a newer format, or arrays that are no attention.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r} cannot be read, expected the path of a trace")
    put, name = _device(device), printable(os.fspath(path))
    with open_regular(Path(path), "a trace") as file:
        try:
            with Unnoticed():
                return _read(file, Path(path), put)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        except (OSError, TypeError, ValueError) as error:
            raise InputError(f"{name} cannot be read: {first_line(error)}") from error


def _read(file: BinaryIO, path: Path, device: torch.device) -> Contents:
    start = file.read(8)
    for magic, cure in _OTHERS.items():
        if start.startswith(magic):
            raise InputError(f"it is {cure}")
    if start.startswith(b"PK"):
        return Contents(records_of({name: tensor.to(device) for name, tensor in read_npz(file).items()}))
    _check_header(file, start)
    tensors, metadata = _safetensors(path)
    if KEY not in metadata:
        if any(manifest.is_ours(text) for text in metadata.values()):
            raise InputError(f"its description of the trace is not called {KEY!r}; the file is damaged")
        return Contents(records_of({name: tensors[name].to(device) for name in sorted(tensors, key=_counted)}))
    return _restored(tensors, manifest.parse(metadata[KEY]), device)


def _check_header(file: BinaryIO, start: bytes) -> None:
    """Hold tensors and header to the budget before either is read: the header's length is the first eight bytes."""
    status = os.fstat(file.fileno())
    length = int.from_bytes(start, "little")
    if length > status.st_size - 8 or len(start) < 8:
        raise InputError(
            f"it is no safetensors file, or a damaged one: its header claims {length:,} bytes of {status.st_size:,}; "
            f"{_EXPECTED}"
        )
    nbytes = _JSON * length + status.st_size
    check(nbytes, "it", f"{status.st_size:,} bytes, {length:,} of them of a header", occupied(status) + _JSON * 2**24)


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, copied out of the file, and its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            # a copy: the file may change under a memory map, and its bytes may be no valid booleans
            tensors = {name: _copied(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118, not a mapping
            return tensors, file.metadata() or {}
    except OSError:
        raise
    except (SafetensorError, Exception) as error:
        raise InputError(f"it is no safetensors file, or a damaged one: {first_line(error)}; {_EXPECTED}") from error


def _counted(name: str) -> list[tuple[int, str]]:
    """A key that sorts layer 10 after layer 9; a file of another program keeps no order."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", name)]


def _copied(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor.clone()


def _restored(tensors: Mapping[str, Tensor], stated: Mapping[str, Any], device: torch.device) -> Contents:
    _check_tensors(tensors, manifest.objects(stated.get("tensors"), "tensors"))
    reader = _Reader(stated, {name: tensor.to(device) for name, tensor in tensors.items()})
    entries = manifest.lists(stated.get("records"), "records")
    records = tuple(reader.record(entry, f"record {number}") for number, entry in enumerate(entries))
    if not records:
        raise InputError("it has no records, expected one at least; the file is damaged, or no trace of tokenrank")
    for name in tensors:
        if name not in reader.used:
            raise InputError(f"tensor {printable(name)} belongs to no record; the file is damaged")
    opaque = manifest.objects(stated.get("opaque", {}), "opaque")
    counts = {name: manifest.whole(count, "a count of opaque") for name, count in opaque.items()}
    return Contents(records, counts, manifest.choice_from_json(stated.get("layout"), "the trace's layout"))


def _check_tensors(tensors: Mapping[str, Tensor], stated: Mapping[str, Any]) -> None:
    for name in stated:
        if name not in tensors:
            raise InputError(f"tensor {printable(name)} is missing; {nearest(name, tensors)}; the file is damaged")
    for name, tensor in tensors.items():
        if name not in stated:
            raise InputError(
                f"tensor {printable(name)} is not described, expected {len(stated)} that are; the file is damaged"
            )
        actual = summary(tensor)
        if actual != stated[name]:
            raise InputError(
                f"tensor {printable(name)} has {_shown(actual)}, expected {_shown(stated[name])}; the file is damaged, "
                "save the trace again"
            )


def _shown(entry: Any) -> str:
    return printable(
        " ".join(f"{key} {value}" for key, value in entry.items()) if isinstance(entry, dict) else str(entry)
    )


class _Reader:
    """Turns entries into records; what they share is read once.

    Attributes:
        used: names of the tensors that belong to a record or to windows.
    """

    def __init__(self, stated: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.used: set[str] = set()
        self._tensors = tensors
        self._forwards = [manifest.forward_from_json(*entry) for entry in _numbered(stated.get("forwards"), "forward")]
        self._layouts = [_layout(*entry) for entry in _numbered(stated.get("layouts"), "layout")]
        self._windows = [self._window_entry(*entry) for entry in _numbered(stated.get("windows", []), "windows")]

    def record(self, value: Any, what: str) -> AttentionRecord:
        """The record of an entry.

        Raises:
            InputError: other types, tensors that do not fit each other, or a layout of another size.
        """
        entry = manifest.objects(value, what)
        record = self._attention(entry, what)
        record = replace(record, **self._tokens(entry, what))
        _check_layout(record, what)
        return record

    def _attention(self, entry: Mapping[str, Any], what: str) -> AttentionRecord:
        name = manifest.text(entry.get("name"), f"name of {what}")
        what = f"{what} ({printable(name)})"
        parts: dict[str, Any] = {part: self._tensors[tensor] for part, tensor in self._parts(entry, what).items()}
        record = AttentionRecord(
            name,
            manifest.text(entry.get("module"), f"module of {what}"),
            manifest.one_of(entry.get("kind"), manifest.KINDS, f"kind of {what}"),  # type: ignore[arg-type]
            manifest.whole(entry.get("index"), f"index of {what}"),
            manifest.place(entry.get("forward"), self._forwards, f"forward of {what}"),
            scale=manifest.number(entry.get("scale"), f"scale of {what}"),
            is_causal=manifest.flag(entry.get("is_causal"), f"is_causal of {what}"),
            **parts,
        )
        if record.weights is not None:
            check_shape(record.weights, f"weights of {what}")
        if record.q is not None and record.k is not None:
            check_query_key(record.q, record.k, record.scale, record.mask, record.sinks, what, finite=False)
        return record

    def _parts(self, entry: Mapping[str, Any], what: str) -> Mapping[str, str]:
        """Names of tensors by the parts of a record that they are."""
        parts = manifest.objects(entry.get("tensors"), f"tensors of {what}")
        for part, tensor in parts.items():
            manifest.one_of(part, manifest.PARTS, f"a tensor of {what}")
            self.used.add(manifest.one_of(tensor, self._tensors, f"{part} of {what}"))
        if parts.keys() & {"q", "k", "weights"} not in ({"q", "k"}, {"weights"}):
            raise InputError(f"{what} has {sorted(parts)}, expected q and k, or weights; the file is damaged")
        return parts

    def _tokens(self, entry: Mapping[str, Any], what: str) -> dict[str, Any]:
        size, layout, windows = (entry.get(key) for key in ("batch_size", "layout", "windows"))
        texts = manifest.lists(entry.get("texts", []), f"texts of {what}")
        return {
            "layout": None if layout is None else manifest.place(layout, self._layouts, f"layout of {what}"),
            "windows": None if windows is None else manifest.place(windows, self._windows, f"windows of {what}"),
            "batch_size": None if size is None else manifest.whole(size, f"batch_size of {what}"),
            "texts": tuple(manifest.place(text, self._layouts, f"a text of {what}") for text in texts),
            "sides": self._sides(entry.get("sides"), f"sides of {what}"),
        }

    def _sides(self, value: Any, what: str) -> tuple[TokenLayout | None, TokenLayout | None]:
        if value is None:
            return None, None
        sides = [None if i is None else manifest.place(i, self._layouts, what) for i in manifest.lists(value, what)]
        if len(sides) != 2 or any(isinstance(side, LayoutError) for side in sides):
            raise InputError(
                f"{what} are {len(sides)} entries, expected the layouts of queries and keys; the file is damaged"
            )
        return sides[0], sides[1]

    def _window_entry(self, value: Any, what: str) -> Windows:
        entry = manifest.objects(value, what)
        name = manifest.one_of(entry.get("index"), self._tensors, f"index of {what}")
        self.used.add(name)
        layout = manifest.place(entry.get("layout"), self._layouts, f"layout of {what}")
        index = self._tensors[name].cpu()
        _check_index(index, layout, what)
        shift, heads = entry.get("shift"), entry.get("heads")
        split = None if heads is None else manifest.whole(heads, f"heads of {what}")
        return Windows(index, layout, None if shift is None else _shift(shift, what), split or None)


def _numbered(entries: Any, kind: str) -> Iterator[tuple[Any, str]]:
    """The entries of a list, each with its name for errors."""
    return ((entry, f"{kind} {i}") for i, entry in enumerate(manifest.lists(entries, f"list of {kind}")))


def _layout(value: Any, what: str) -> TokenLayout | LayoutError:
    entry = manifest.objects(value, what)
    if "error" in entry:
        return LayoutError(manifest.text(entry["error"], what))
    return manifest.layout_from_json(entry, what)


def _check_layout(record: AttentionRecord, what: str) -> None:
    """Refuse windows, a layout and texts that are not of the record's size."""
    n, windows = record.shape[-1], record.windows
    if windows is not None:
        each = len(windows.index) * (windows.heads or 1)
        if windows.index.shape[-1] != n or record.shape[:-2].numel() % each:
            raise InputError(
                f"windows of {what} are {tuple(windows.index.shape)}, expected windows of the record's {n} "
                f"tokens, and a number of them that divides {tuple(record.shape[:-2])}; the file is damaged"
            )
        n = windows.layout.num_tokens
    if isinstance(record.layout, TokenLayout) and record.layout.num_tokens != n:
        raise InputError(
            f"the layout of {what} has {record.layout.num_tokens} tokens, expected the record's {n}; the file is "
            "damaged"
        )
    for side, count in zip(record.sides, record.shape[-2:], strict=True):
        if side is not None and side.num_tokens != count:
            raise InputError(
                f"a side of {what} has {side.num_tokens} tokens, expected the record's {count}; the file is damaged"
            )
    for text in record.texts:
        if not isinstance(text, TokenLayout) or text.tokens is None or text.num_tokens != record.shape[-2]:
            raise InputError(
                f"a text of {what} is no layout with the strings of its {record.shape[-2]} queries; the file is damaged"
            )


def _check_index(index: Tensor, layout: TokenLayout | LayoutError, what: str) -> None:
    """Refuse windows that do not hold every token of their layout once."""
    if index.dtype != torch.int64 or index.ndim != 2 or not isinstance(layout, TokenLayout):
        raise InputError(
            f"index of {what} is {index.dtype} of shape {tuple(index.shape)}, expected int64 of shape (windows, "
            "tokens) and a layout; the file is damaged"
        )
    count = index.numel()
    if layout.num_tokens != count or not torch.equal(index.reshape(-1).sort().values, torch.arange(count)):
        raise InputError(f"index of {what} is no order of its layout's {layout.num_tokens} tokens; the file is damaged")


def _shift(value: Any, what: str) -> tuple[int, int]:
    shift = [manifest.signed(n, f"shift of {what}") for n in manifest.lists(value, what)]
    if len(shift) != 2:
        raise InputError(f"shift of {what} has {len(shift)} numbers, expected rows and columns; the file is damaged")
    return shift[0], shift[1]


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise InputError(f"device is {device!r}, which PyTorch refuses: {first_line(error)}; try 'cpu'") from None
