"""Which module is running: found on the Python stack, so that no module is touched."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from torch import nn

# every call of a module passes through these; their frames hold little else than the module
_CALLS: frozenset[CodeType] = frozenset(
    getattr(nn.Module, name).__code__
    for name in ("_call_impl", "_wrapped_call_impl")
    if hasattr(getattr(nn.Module, name, None), "__code__")
)
# and through a function inside of them where there are hooks
_CALLERS = _CALLS | {const for code in _CALLS for const in code.co_consts if isinstance(const, CodeType)}


class ModuleNames:
    """Names of the modules under ``root``, as of now."""

    def __init__(self, root: nn.Module) -> None:
        self._names = _names_under(root)

    def running(self) -> tuple[str, nn.Module] | None:
        """(name, module) of the innermost running module, or None outside of the root.

        ``nn.Softmax`` is passed over: it is a part of the attention, not the attention.
        """
        names = self._names
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code, caller = frame.f_code, frame.f_back
            module: Any = None
            if code in _CALLS:
                module = frame.f_locals.get("self")
            elif code.co_name == "forward" and (caller is None or caller.f_code not in _CALLERS):
                module = _any_self(frame)  # forward was called directly, around the module's call
            if module is not None and id(module) in names and not isinstance(module, nn.Softmax):
                return names[id(module)], module
            frame = caller
        return self._method()

    def _method(self) -> tuple[str, nn.Module] | None:
        """The same from any method of a module: nothing was called as a module."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            module = _any_self(frame)
            if module is not None and id(module) in self._names:
                return self._names[id(module)], module
            frame = frame.f_back
        return None


def _names_under(root: nn.Module) -> dict[int, str]:
    """id → name of every module, the first where it has several: ``named_modules``, four times as fast."""
    names: dict[int, str] = {}
    waiting = [("", root)]
    while waiting:
        name, module = waiting.pop()
        if id(module) in names:
            continue
        names[id(module)] = name
        for part, child in reversed(module._modules.items()):
            if child is not None:
                # torch.compile wraps a module in another one
                below = name if part == "_orig_mod" else f"{name}.{part}" if name else part
                waiting.append((below, child))
    return names


def _any_self(frame: FrameType) -> Any:
    # reading f_locals copies every local and so prolongs its life: only of frames that are methods
    return frame.f_locals.get("self") if frame.f_code.co_varnames[:1] == ("self",) else None
