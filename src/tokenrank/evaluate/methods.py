"""Methods by name, as ``--methods`` takes them: ``tokenrank:layer=3:heads=uniform,rollout,mymodule:function``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, TypeAlias, cast

from ..baselines import FILLED, Method
from ..baselines import methods as registered
from ..baselines.registry import Need
from ..chain import TokenMap
from ..errors import InputError, NotFoundError, first_line, nearest
from ..layout import Point
from ..observation import Observation
from .clock import spent_on

Asks: TypeAlias = Literal["nothing", "seed", "class"]


@dataclass(frozen=True)
class Query:
    """What a method may be told about a picture.

    Attributes:
        seed: a point on the object.
        label: a class; the predicted one where None.
        random: seed of random numbers, of this picture.
    """

    seed: Point | None = None
    label: int | None = None
    random: int = 0


@dataclass(frozen=True)
class NamedMethod:
    """A method with the options that were asked for.

    Attributes:
        name: as typed, options in order.
        method: the same, bound.
    """

    name: str
    method: Method = field(repr=False)

    @property
    def asks(self) -> Asks:
        """What a protocol must tell it."""
        return asked(self.method)

    def run(self, observation: Observation, query: Query) -> TokenMap:
        """The map of a picture, (P,).

        Raises:
            InputError: the method needs a seed and there is none.
        """
        if self.asks == "seed" and query.seed is None:
            raise InputError(f"method {self.name!r} needs a seed on the object; use a protocol that gives one")
        told = {"start": query.seed, "target": query.label, "random": query.random}
        with spent_on(self.name):
            return self.method(observation, **{option: told[option] for option in self.method.filled})


def parse_methods(text: str) -> tuple[NamedMethod, ...]:
    """Methods from their names, commas between them, options after colons.

    A name is one of ``tr.baselines.methods()``, or ``module:function`` for a function of one's own, which may use
    modules of the current folder. Values are whole numbers, numbers, yes, no, none, words, or several numbers with +
    between them.

    Raises:
        NotFoundError: no method, or no option, of that name. InputError: no method at all, or one twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"no methods in {text!r}, expected some of {', '.join(registered())}")
    methods = tuple(_parse(part) for part in parts)
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"method {twice[0]!r} is given twice")
    return methods


def describe() -> dict[str, tuple[Asks, Mapping[str, Any]]]:
    """Name → what it asks for, and its options with their defaults."""
    return {name: (asked(method), method.options) for name, method in registered().items()}


def asked(method: Method) -> Asks:
    """What a protocol must tell a method; the random number, which all give, aside."""
    return "seed" if "seed" in method.needs else "class" if "class" in method.needs else "nothing"


def _parse(text: str) -> NamedMethod:
    name, *parts = text.split(":")
    if name in registered():
        method = registered()[name]
    elif parts and "=" not in parts[0]:
        method = _own(name, parts.pop(0))
    else:
        raise NotFoundError(
            f"no method {name!r}; {nearest(name, registered())}; or module:function for one of your own"
        )
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"option {part!r} of method {name!r} is not name=value")
        if key in options:
            raise InputError(f"method {text!r} has option {key!r} twice")
        options[key] = option_value(value)
    return NamedMethod(text, method.bind(**options))


def _own(module: str, name: str) -> Method:
    """A user's own function; what it needs is read off its options, unless it was registered.

    Raises:
        NotFoundError: no such module, or no such function in it. InputError: the module fails, or the function is none
            of a method.
    """
    with _folder_importable():
        try:
            own = import_module(module)
        except ModuleNotFoundError as error:
            raise NotFoundError(
                f"no module {module!r} for method {module}:{name} ({first_line(error)}); run where it is importable: "
                "the current folder is searched first"
            ) from error
        except Exception as error:
            raise InputError(f"module {module!r} cannot be imported: {first_line(error)}") from error
    function: Callable[..., TokenMap] | None = getattr(own, name, None)
    if function is None:
        known = [key for key, value in vars(own).items() if callable(value) and not key.startswith("_")]
        raise NotFoundError(f"module {module!r} has no function {name!r}; {nearest(name, known)}")
    plain = getattr(function, "__wrapped__", function)
    for method in registered().values():
        if method.function is plain:
            return method
    unbound = Method.of(name, function)
    told = [need for need, option in FILLED.items() if option in unbound.options]
    return Method.of(name, function, cast("list[Need]", told))


@contextmanager
def _folder_importable() -> Iterator[None]:
    folder = os.getcwd()  # noqa: PTH109  sys.path holds text
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def option_value(text: str) -> Any:
    """A number, yes, no, none, several whole numbers with + between them, or the word itself."""
    if text in ("yes", "no", "none"):
        return {"yes": True, "no": False, "none": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if "+" in text and all(part.isdecimal() for part in text.split("+")):
        return [int(part) for part in text.split("+")]
    return text
