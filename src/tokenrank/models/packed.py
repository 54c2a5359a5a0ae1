"""Weights of some four bits each in one file, read into float32 before a model is built.

Of a matrix (rows, columns) the file holds one step a row, float16, and how many steps each weight is, −127 … 127: the
bytes of these, Huffman-coded by deflate (RFC 1951, no header). Codes near zero are frequent and short; the few weights
that are thirty times the others take a byte or two, and are as exact as the rest. Vectors are float16. What is zero
throughout is not stored, but named.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError, first_line, printable

FILE = "packed.safetensors"
MOST = 127
"""Steps that a weight can be."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix of whole steps.

    Args:
        codes: (rows, columns) int8, −127 … 127.
        steps: (rows,) float16, what one is worth.
    """

    codes: npt.NDArray[np.int8]
    steps: npt.NDArray[np.float16]

    def values(self) -> Tensor:
        """The weights, float32 (rows, columns)."""
        return torch.from_numpy(self.codes.astype(np.float32) * self.steps.astype(np.float32)[:, None])


def deflated(codes: npt.NDArray[np.int8]) -> bytes:
    """Codes row by row, Huffman-coded."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(codes.tobytes()) + coder.flush()


def inflated(content: bytes, shape: Sequence[int]) -> npt.NDArray[np.int8]:
    """The inverse of ``deflated``."""
    return np.frombuffer(zlib.decompress(content, -zlib.MAX_WBITS, math.prod(shape)), np.int8).reshape(shape)


def write_packed(path: Path, tensors: Mapping[str, Packed | Tensor]) -> None:
    """Write matrices that are packed, vectors in float16, and the names of what is zero throughout."""
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        if isinstance(value, Packed):
            stored[f"{name}.codes"] = torch.frombuffer(bytearray(deflated(value.codes)), dtype=torch.uint8)
            stored[f"{name}.steps"] = torch.from_numpy(value.steps)
            entries[name] = {"shape": list(value.codes.shape), "packed": True}
        else:
            entries[name] = {"shape": list(value.shape)}
            if bool((value != 0).any()):
                stored[name] = value.half().contiguous()
            else:
                entries[name]["zero"] = True
    save_file(stored, path, {"tensors": json.dumps(entries), "sha256": _digest(stored, json.dumps(entries))})


def read_packed(path: Path) -> dict[str, Tensor]:
    """Name → float32 tensor, all of them.

    Raises:
        InputError: the file is missing, cut short or changed; its checksum is compared.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except Exception as error:  # a class of safetensors' own, and those of the file system
        raise _damaged(path, first_line(error)) from error
    if "tensors" not in told or "sha256" not in told:
        raise _damaged(path, "it does not say what it holds")
    found = _digest(stored, told["tensors"])
    if found != told["sha256"]:
        raise _damaged(path, f"its checksum is {found[:12]}…, expected {told['sha256'][:12]}…")
    return {name: _tensor(name, entry, stored) for name, entry in json.loads(told["tensors"]).items()}


def _tensor(name: str, entry: Mapping[str, Any], stored: Mapping[str, Tensor]) -> Tensor:
    if entry.get("zero"):
        return torch.zeros(entry["shape"])
    if not entry.get("packed"):
        return stored[name].float()
    codes = inflated(stored[f"{name}.codes"].numpy().tobytes(), entry["shape"])
    return Packed(codes, stored[f"{name}.steps"].numpy()).values()


def _digest(stored: Mapping[str, Tensor], entries: str) -> str:
    sha = hashlib.sha256(entries.encode())
    for name in sorted(stored):
        sha.update(name.encode())
        sha.update(stored[name].numpy().tobytes())
    return sha.hexdigest()


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"the weights {printable(path)} are missing or damaged: {why}; copy them anew (those of the package with "
        "pip install --force-reinstall --no-deps tokenrank)"
    )
