"""Kernels that compute attention where nobody can look, by their names."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from torch._ops import OpOverload, OpOverloadPacket

_NAMES = re.compile("attn|attention|flash|sage|xformers|varlen", re.IGNORECASE)


def is_opaque(function: Any) -> bool:
    """Whether a torch function is an operator whose name says attention."""
    return isinstance(function, OpOverload | OpOverloadPacket) and _NAMES.search(str(function)) is not None


class OpaqueKernels:
    """How often each such kernel was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def observer(self, function: Any) -> Any:
        """What to call after each call of ``function``."""
        name = str(function)

        def count(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self.calls[name] += 1

        return count
