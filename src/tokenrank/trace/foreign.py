"""Named arrays of other programs, read as attention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, printable
from ..files.checks import check_weights
from ..recording import AttentionRecord, Forward
from .external import FIELDS, record
from .trace import Trace

_NAME = re.compile(r"(?:(?P<name>.*)[./_])?(?P<part>q|k|v|scale|mask|is_causal|sinks|weights|attn)", re.DOTALL)


def trace_of(arrays: Mapping[str, Tensor]) -> Trace:
    """A trace from arrays named "NAME.q" and "NAME.k", "NAME.weights" or "NAME"; see ``load_trace``.

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
    return Trace([_record(name, parts, i, forward) for i, (name, parts) in enumerate(groups.items())])


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
    return record(name, entry, place, forward)


def _flag(tensor: Tensor, what: str) -> bool:
    if tensor.numel() != 1 or tensor.dtype not in (torch.bool, torch.uint8, torch.int32, torch.int64):
        raise InputError(f"is_causal of {what} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected one bool")
    return bool(tensor.item())
