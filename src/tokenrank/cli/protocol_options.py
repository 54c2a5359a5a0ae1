"""Options of a protocol as they are typed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import nearest
from .report import MisuseError

if TYPE_CHECKING:
    from ..evaluate.protocols import Protocol


def protocol_options(protocol: type[Protocol], given: Sequence[str], size: int | None) -> dict[str, Any]:
    """``--option NAME=VALUE`` and ``--size`` as fields of a protocol.

    A value is none, true, false, a number, or text; several of them, with commas between, are a tuple, as is a single
    one where the field holds a tuple.

    Raises:
        MisuseError: not NAME=VALUE, a name twice, no such option, a value of another type, or a size for a protocol
            that has none.
    """
    # protocols are data classes, which their common base need not be
    known = {field.name: field.default for field in dataclasses.fields(protocol)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    if size is not None:
        fitting = [name for name in ("size", "side") if name in known]
        if not fitting:
            raise MisuseError(f"size = {size}, but protocol {protocol.name!r} has no size to choose; leave --size out")
        found[fitting[0]] = size
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise MisuseError(f"option {text!r} is not NAME=VALUE, such as native=true")
        if name in found:
            raise MisuseError(f"option {name!r} is given twice; give it once")
        if name not in known:
            raise MisuseError(f"protocol {protocol.name!r} has no option {name!r}; {nearest(name, known)}")
        found[name] = _value(value, known[name], name)
    return found


def _value(text: str, default: Any, name: str) -> Any:
    parts = [_single(part.strip()) for part in text.split(",")] if text else []
    if isinstance(default, tuple):
        return tuple(parts)
    value = parts[0] if len(parts) == 1 else tuple(parts)
    wanted = (int, float) if type(default) is float else type(default)
    if default is not None and default is not dataclasses.MISSING and type(value) not in _types(wanted):
        raise MisuseError(f"option {name} = {text!r}, expected something like {default!r}")
    return value


def _types(wanted: Any) -> tuple[type, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _single(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text
