"""Files with attention: traces that were saved, and what other programs wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, first_line, nearest, neighbours, printable
from ..files import manifest
from ..files.checks import check_query_key, check_shape
from ..files.npz import read_npz
from ..files.stored import Stored
from ..files.write import KEY, summary
from ..layout import TokenLayout
from ..models.windows import Windows
from ..recording import AttentionRecord, Forward
from ..recording.quiet import Unnoticed
from .foreign import trace_of
from .stored_layouts import StoredLayouts
from .trace import Trace

_OTHERS = {b"\x93NUMPY": "a single array; save it with a name, np.savez(path, name=array)"}


def load_trace(path: str | os.PathLike[str], device: torch.device | str | None = None) -> Trace:
    """The trace that ``trace.save(path)`` wrote, or attention that another program saved.

    Of other programs, ``.npz`` and ``.safetensors`` files are read whose arrays are named
    "NAME.q" and "NAME.k" (with "NAME.scale", "NAME.mask", "NAME.is_causal", "NAME.sinks" where there are), or
    "NAME.weights", "NAME.attn" or only "NAME" for weights; "/" and "_" do in place of the dot, and
    "q", "k" without any name. "NAME.v" is passed over. Nothing in a file is ever executed.

    Args:
        path: of the file; what it is, is told from its contents.
        device: where to put the tensors; the CPU by default.

    Raises:
        InputError: no such file, another kind of file, a damaged one (every tensor of a saved trace has
            a checksum), a newer format, or arrays that are no attention.
    """
    where = printable(os.fspath(path)) if isinstance(path, str | os.PathLike) else repr(path)
    try:
        with Unnoticed():
            return _load(Path(path), _device(device))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {first_line(error)}{_cure(path)}") from error


def _load(path: Path, device: torch.device) -> Trace:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, cure in _OTHERS.items():
        if start.startswith(magic):
            raise InputError(f"it is {cure}")
    if start.startswith(b"PK"):
        return trace_of({name: tensor.to(device) for name, tensor in read_npz(path).items()})
    tensors, metadata = _safetensors(path)
    if KEY not in metadata:
        if any(text.startswith(manifest.START) for text in metadata.values()):
            raise InputError(f"its description of the trace is not called {KEY!r}; the file is damaged")
        return trace_of({name: tensors[name].to(device) for name in sorted(tensors, key=_counted)})
    return _restored(tensors, manifest.parse(metadata[KEY]), device)


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
        raise InputError(
            f"it is no safetensors file, or a damaged one: {first_line(error)}; expected what trace.save(path) writes, "
            "or .npz or .safetensors with arrays NAME.q and NAME.k, or NAME.weights"
        ) from error


def _counted(name: str) -> list[tuple[int, str]]:
    """A key that sorts layer 10 after layer 9; a file of another program keeps no order."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", name)]


def _copied(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor.clone()


def _restored(tensors: Mapping[str, Tensor], found: Mapping[str, Any], device: torch.device) -> Trace:
    _check_tensors(tensors, manifest.objects(found.get("tensors"), "tensors"))
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    forwards = [
        manifest.forward_from_json(entry, f"forward {i}")
        for i, entry in enumerate(manifest.lists(found.get("forwards"), "forwards"))
    ]
    layouts = [_layout(entry, f"layout {i}") for i, entry in enumerate(manifest.lists(found.get("layouts"), "layouts"))]
    records: list[AttentionRecord] = []
    known: dict[AttentionRecord, Stored] = {}
    windows = [
        _windows(entry, layouts, placed, f"windows {i}")
        for i, entry in enumerate(manifest.lists(found.get("windows", []), "windows"))
    ]
    used = {name for _, name in windows}
    for number, value in enumerate(manifest.lists(found.get("records"), "records")):
        entry = manifest.objects(value, f"record {number}")
        record, names = _record(entry, f"record {number}", placed, forwards)
        used.update(names)
        records.append(record)
        known[record] = _stored(entry, record, layouts, [w for w, _ in windows], f"record {number}")
    if not records:
        raise InputError("it has no records, expected one at least; the file is damaged, or no trace of tokenrank")
    _all_used(placed, used)
    layout = found.get("layout")
    chosen = layout if layout is None or layout is False else manifest.layout_from_json(layout, "the trace's layout")
    opaque = manifest.objects(found.get("opaque", {}), "opaque")
    counts = {name: manifest.whole(count, "a count of opaque") for name, count in opaque.items()}
    return Trace(records, StoredLayouts(known), counts, chosen)


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


def _layout(value: Any, what: str) -> TokenLayout | str:
    entry = manifest.objects(value, what)
    return manifest.text(entry["error"], what) if "error" in entry else manifest.layout_from_json(entry, what)


def _stored(
    entry: Mapping[str, Any],
    record: AttentionRecord,
    layouts: list[TokenLayout | str],
    windows: list[Windows],
    what: str,
) -> Stored:
    size, layout, stand = (entry.get(key) for key in ("batch_size", "layout", "windows"))
    stored = Stored(
        None if layout is None else manifest.place(layout, layouts, f"layout of {what}"),
        None if stand is None else manifest.place(stand, windows, f"windows of {what}"),
        None if size is None else manifest.whole(size, f"batch_size of {what}"),
    )
    n = record.shape[-1]
    if stored.windows is not None:
        each = len(stored.windows.index) * (stored.windows.heads or 1)
        if stored.windows.index.shape[-1] != n or record.shape[:-2].numel() % each:
            raise InputError(
                f"windows of {what} are {tuple(stored.windows.index.shape)}, expected windows of the record's {n} "
                f"tokens, and a number of them that divides {tuple(record.shape[:-2])}; the file is damaged"
            )
        n = stored.windows.layout.num_tokens
    if isinstance(stored.layout, TokenLayout) and stored.layout.num_tokens != n:
        raise InputError(
            f"the layout of {what} has {stored.layout.num_tokens} tokens, expected the record's {n}; the file is "
            "damaged"
        )
    return stored


def _windows(
    value: Any, layouts: list[TokenLayout | str], tensors: Mapping[str, Tensor], what: str
) -> tuple[Windows, str]:
    entry = manifest.objects(value, what)
    name = manifest.one_of(entry.get("index"), tensors, f"index of {what}")
    index, layout = tensors[name], manifest.place(entry.get("layout"), layouts, f"layout of {what}")
    if index.dtype != torch.int64 or index.ndim != 2 or not isinstance(layout, TokenLayout):
        raise InputError(
            f"index of {what} is {index.dtype} of shape {tuple(index.shape)}, expected int64 of shape (windows, "
            "tokens) and a layout; the file is damaged"
        )
    count = index.numel()
    if layout.num_tokens != count or not torch.equal(index.reshape(-1).sort().values.cpu(), torch.arange(count)):
        raise InputError(f"index of {what} is no order of its layout's {layout.num_tokens} tokens; the file is damaged")
    shift, heads = entry.get("shift"), entry.get("heads")
    rolled = None if shift is None else [manifest.signed(n, f"shift of {what}") for n in manifest.lists(shift, what)]
    if rolled is not None and len(rolled) != 2:
        raise InputError(f"shift of {what} has {len(rolled)} numbers, expected rows and columns; the file is damaged")
    split = None if heads is None else manifest.whole(heads, f"heads of {what}")
    return Windows(index.cpu(), layout, None if rolled is None else (rolled[0], rolled[1]), split or None), name


def _record(
    entry: Mapping[str, Any], what: str, tensors: Mapping[str, Tensor], forwards: list[Forward]
) -> tuple[AttentionRecord, Iterable[str]]:
    name = manifest.text(entry.get("name"), f"name of {what}")
    what = f"{what} ({printable(name)})"
    parts = manifest.objects(entry.get("tensors"), f"tensors of {what}")
    for part, tensor in parts.items():
        manifest.one_of(part, manifest.PARTS, f"a tensor of {what}")
        manifest.one_of(tensor, tensors, f"{part} of {what}")
    if parts.keys() & {"q", "k", "weights"} not in ({"q", "k"}, {"weights"}):
        raise InputError(f"{what} has {sorted(parts)}, expected q and k, or weights; the file is damaged")
    record = AttentionRecord(
        name,
        manifest.text(entry.get("module"), f"module of {what}"),
        manifest.one_of(entry.get("kind"), manifest.KINDS, f"kind of {what}"),  # type: ignore[arg-type]
        manifest.whole(entry.get("index"), f"index of {what}"),
        manifest.place(entry.get("forward"), forwards, f"forward of {what}"),
        scale=manifest.number(entry.get("scale"), f"scale of {what}"),
        is_causal=manifest.flag(entry.get("is_causal"), f"is_causal of {what}"),
        **{part: tensors[tensor] for part, tensor in parts.items()},
    )
    if record.weights is not None:
        check_shape(record.weights, f"weights of {what}")
    if record.q is not None and record.k is not None:
        check_query_key(record.q, record.k, record.scale, record.mask, record.sinks, what, finite=False)
    return record, parts.values()


def _all_used(tensors: Mapping[str, Tensor], used: set[str]) -> None:
    for name in tensors:
        if name not in used:
            raise InputError(f"tensor {printable(name)} belongs to no record; the file is damaged")


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise InputError(f"device is {device!r}, which PyTorch refuses: {first_line(error)}; try 'cpu'") from None


def _cure(path: Any) -> str:
    try:
        file = Path(path)
        if not file.exists():
            return f"; {nearest(file.name, neighbours(file))}"
    except (TypeError, ValueError, OSError):
        pass
    return ""
