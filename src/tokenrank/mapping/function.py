"""What tells functions of ``tr.map`` apart: their code and all that they hold."""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torch

_IMMUTABLE = (str, int, float, complex, bytes, NoneType)


def settings_of_function(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Name and digest of a function: its code, defaults, enclosed values, the object that it is a method of, and the
    numbers and texts among its globals. Functions that it finds among its globals are not looked at.
    """
    if isinstance(function, functools.partial):
        given = [*map(_shown, function.args), *(f"{name}={_shown(value)}" for name, value in function.keywords.items())]
        return {**settings_of_function(function.func), "bound": given}
    name = getattr(function, "__qualname__", type(function).__qualname__)
    called = type(function).__call__ if hasattr(function, "__dict__") and not hasattr(function, "__code__") else None
    return {"name": name, "digest": _digest([_held(function, ()), _held(called, ())])}


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, _IMMUTABLE) else f"{type(value).__qualname__} {_digest(_held(value, ()))}"


def _digest(held: Any) -> str:
    return hashlib.blake2b(repr(held).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def _held(value: Any, above: tuple[int, ...]) -> Any:
    """A value in lists and texts that depend on nothing but what it holds; of what hides that, its type."""
    if isinstance(value, _IMMUTABLE):
        return repr(value)
    kind = type(value).__qualname__
    if id(value) in above:  # holds itself
        return kind
    inside = functools.partial(_held, above=(*above, id(value)))
    if isinstance(value, tuple | list):
        return [kind, *map(inside, value)]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(repr(inside(part)) for part in value)]
    if isinstance(value, Mapping):
        return [kind, *([inside(key), inside(part)] for key, part in value.items())]
    if isinstance(value, torch.Tensor | np.ndarray):
        return [kind, str(value.dtype), list(value.shape), _content(value)]
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, *map(inside, value.co_consts)]
    if isinstance(value, functools.partial):
        return [kind, *map(inside, (value.func, value.args, value.keywords))]
    if isinstance(value, MethodType):
        return [kind, inside(value.__func__), inside(value.__self__)]
    if isinstance(value, type | ModuleType | BuiltinFunctionType):
        return [kind, getattr(value, "__qualname__", value.__name__)]
    if hasattr(value, "__code__"):
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, _enclosed(value), _globals(value))
        return [kind, *map(inside, parts)]
    # what an object computed once and keeps says nothing that the rest does not
    kept = {n for n in dir(type(value)) if isinstance(getattr(type(value), n, None), functools.cached_property)}
    return [kind, *([name, inside(part)] for name, part in getattr(value, "__dict__", {}).items() if name not in kept)]


def _enclosed(function: Any) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # empty: what is defined after the function
            found.append(None)
    return found


def _globals(function: Any) -> dict[str, Any]:
    """Numbers and texts by the names under which its code, and that of functions in it, reads them."""
    names: set[str] = set()
    codes = [function.__code__]
    for code in codes:
        names |= {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    found = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    return {name: value for name, value in found.items() if isinstance(value, _IMMUTABLE)}


def _content(value: torch.Tensor | np.ndarray[Any, Any]) -> str:
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return hashlib.blake2b(value.tobytes(), digest_size=8).hexdigest()
    except (RuntimeError, NotImplementedError, TypeError):  # sparse, without storage
        return ""
