"""The kernels built for cards that are not there; run in a process of its own by ``test_kernels``.

Prints one line of JSON: shared memory in bytes of each, as they are launched.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tokenrank.operators.device import kernels, triton_code

AMPERE, HOPPER = GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)
POINTERS = {"B": "*fp32", "C": "*fp32", "X": "*fp32", "F": "*fp32", "LIVE": "*u8", "Y": "*fp32", "W": "*fp16"}


def build(kernel: Any, target: GPUTarget, half: str, constants: dict[str, Any], options: dict[str, int]) -> int:
    """Shared memory of a kernel for a card; one column, contiguous rows."""
    types, fixed, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        known = {"c": 1, "w_in": 1, **constants}.get(name)
        if known is not None:
            types[name], fixed[place,] = "constexpr", known
            continue
        halves = {"Q": half, "K": half}
        types[name] = halves.get(name) or POINTERS.get(name) or ("fp32" if name == "scale" else "i32")
        if name != "scale":
            attributes[place,] = [["tt.divisibility", 16]]
    built = triton.compile(ASTSource(kernel, types, fixed, attributes), target=target, options=options)
    assert built.asm["cubin"]
    return int(built.metadata.shared)


def main() -> dict[str, int]:
    found = {}
    for target, half, width, columns, triangle in (
        (HOPPER, "*fp16", 128, 8, "lower"),
        (AMPERE, "*bf16", 64, 8, "upper"),
        (AMPERE, "*bf16", 256, 8, "full"),
        (AMPERE, "*fp16", 128, 32, "full"),
    ):
        out, inner, options = kernels.blocks(width, columns)
        constants = {"D": width, "COLUMNS": columns, "OUT": out, "IN": inner, "TRIANGLE": triangle}
        name = f"exponential, {target.arch}, {half}, {width}, {columns}, {triangle}"
        found[name] = build(triton_code.exponential, target, half, constants, options)
    constants = {"COLUMNS": 8, "OUT": kernels.STREAMED, "IN": kernels.STREAMED}
    found[f"streamed, {HOPPER.arch}"] = build(triton_code.streamed, HOPPER, "*fp16", constants, {})
    return found


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
