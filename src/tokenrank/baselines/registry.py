"""Registry of methods: a name, what the method needs, and the function that makes a map of a picture's patches."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, overload

from ..chain import TokenMap
from ..errors import InputError, LayoutError, NotFoundError, nearest
from ..reading import Reading, Source, observe

Need: TypeAlias = Literal["seed", "class", "random", "gradients", "features"]
"""What a method is told (a place on the object, a class, a random number) or asks of the source."""

FILLED: Mapping[str, str] = {"seed": "start", "class": "target", "random": "random"}
"""A need that a protocol meets, picture by picture → the option that it fills."""

Function = TypeVar("Function", bound=Callable[..., TokenMap])

_OBSERVE = frozenset({"source", *Reading.__annotations__})
_METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """A method: called with what ``tr.observe`` takes, it returns a map of the patches.

    Attributes:
        name: as ``tokenrank evaluate`` knows it.
        needs: see ``Need``.
        function: takes an ``Observation`` and options.
        options: name → value where nothing else is said, without those that a protocol fills (``FILLED``).
    """

    name: str
    needs: tuple[Need, ...]
    function: Callable[..., TokenMap]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, function: Callable[..., TokenMap], needs: Sequence[Need] = ()) -> Method:
        """The method that a function is, with the options of its signature; not registered.

        Raises:
            InputError: a name, a need or a function that ``register`` refuses.
        """
        _check_name(name)
        _check_needs(name, needs)
        defaults = _defaults(name, function)
        filled = {need: FILLED[need] for need in needs if need in FILLED}
        for need, option in filled.items():
            if option not in defaults:
                raise InputError(
                    f"method {name!r} needs {need!r} and has no option {option!r} to be told it; add {option}=None to "
                    "its keyword arguments"
                )
        options = {key: value for key, value in defaults.items() if key not in filled.values()}
        return cls(name, tuple(needs), function, MappingProxyType(options))

    @property
    def filled(self) -> tuple[str, ...]:
        """Options that a protocol fills, picture by picture."""
        return tuple(FILLED[need] for need in self.needs if need in FILLED)

    def bind(self, **options: Any) -> Method:
        """The same method with other values of its options.

        Raises:
            NotFoundError: no such option; the message lists those that there are.
        """
        self._check(options, [*self.options])
        return replace(self, options=MappingProxyType({**self.options, **options}))

    def __call__(self, source: Source, **given: Any) -> TokenMap:
        """The map of a source, (P,).

        Args:
            source: an ``Observation``, or whatever ``tr.observe`` takes.
            given: options, and keyword arguments of ``tr.observe``.

        Raises:
            NotFoundError: no such option. LayoutError: a source without a picture.
            InputError: the function returned no map, or one that does not have a value for every patch.
        """
        reading = {key: given.pop(key) for key in [*given] if key in _OBSERVE}
        self._check(given, [*self.options, *self.filled])
        observation = observe(source, **reading)
        if observation.modality != "image":
            raise LayoutError(
                f"{self.name} makes a map of a picture's patches, and no layer of {observation.name} is known to see "
                "any; of a text ask observation.chain(), of a picture give tr.observe(…, layout=tr.TokenLayout.image("
                "rows, columns))"
            )
        options = {**self.options, **given}
        answer = self._checked(self.function(observation, **options))
        more = f": {answer.caption}" if answer.caption else ""
        caption = f"{observation.name}, {self._words(options)}{more}"
        return replace(answer, picture=observation.picture, caption=caption)

    def _check(self, options: Mapping[str, Any], known: list[str]) -> None:
        for option in options:
            if option not in known:
                raise NotFoundError(
                    f"method {self.name!r} has no option {option!r}; "
                    + (f"it has {', '.join(known)}" if known else "it has none")
                )

    def _words(self, options: Mapping[str, Any]) -> str:
        # None leaves the choice to the method, whose caption says what it took
        told = [f"{key}={value}" for key, value in options.items() if key not in self.filled and value is not None]
        return ", ".join([self.name, *told])

    def _checked(self, answer: object) -> TokenMap:
        if not isinstance(answer, TokenMap):
            raise InputError(
                f"method {self.name!r} returned {type(answer).__name__}, expected a TokenMap; end it with "
                "return observation.map(values)"
            )
        if answer.layout is None or len(answer.layout.grids) != 1 or len(answer.layout.spans) != 1:
            raise InputError(
                f"method {self.name!r} returned a map of {answer.layout or 'unknown tokens'}, expected patches alone; "
                "end it with return observation.map(values)"
            )
        if answer.values.ndim != 1:
            raise InputError(
                f"method {self.name!r} returned values of shape {tuple(answer.values.shape)}, expected one map (P,); "
                "mix the heads first"
            )
        return answer


@overload
def register(name: str, *, needs: Sequence[Need] = ..., replace: bool = ...) -> Callable[[Function], Function]: ...


@overload
def register(name: str, function: Function, *, needs: Sequence[Need] = ..., replace: bool = ...) -> Function: ...


def register(
    name: str, function: Function | None = None, *, needs: Sequence[Need] = (), replace: bool = False
) -> Function | Callable[[Function], Function]:
    """Add a method of one's own; ``tokenrank evaluate`` then knows it by name, beside the others.

    The function gets an ``Observation``, everything else by keyword with a default, and returns
    ``observation.map(values)`` with a value for every patch, (P,). What is returned here is the same function, which
    now takes whatever ``tr.observe`` takes.

    >>> import tokenrank as tr
    >>> @tr.baselines.register("norm_of_keys", needs=("features",))
    ... def norm_of_keys(observation, *, layer=None):
    ...     return observation.map(observation.features(layer).norm(dim=-1))
    >>> norm_of_keys(tr.samples.path("chelsea"), size=64, layer=2).grid().shape
    torch.Size([5, 8])

    Args:
        name: for ``--methods``: a word.
        function: the method; without it ``register`` decorates the one below.
        needs: "seed" (a place on the object, as option ``start``), "class" (its index, as option ``target``; None for
            the predicted one), "random" (a number, as option ``random``): what a protocol tells it. "gradients" (a
            model that can run again, with a classifier), "features" (queries and keys): what the source must have.
        replace: take the place of a method of this name, as when a notebook's cell is run again.

    Raises:
        InputError: a name that is no word or is taken, an unknown need, or a function that cannot be called with an
            observation alone; the message has the cure.
    """
    _check_name(name)
    if function is None:
        return lambda function: register(name, function, needs=needs, replace=replace)
    method = Method.of(name, function, needs)
    if name in _METHODS and not replace:
        raise InputError(f"method {name!r} is there already; take another name, or replace=True to take its place")
    _METHODS[name] = method

    @wraps(function)
    def public(source: Source, *arguments: Any, **given: Any) -> TokenMap:
        if arguments:
            raise InputError(
                f"{name} takes one source, and the rest by name, such as {name}(module, inputs=…) or "
                f"{name}(source, {next(iter([*method.filled, *method.options, 'model']))}=…)"
            )
        return method(source, **given)

    return cast("Function", public)


def methods() -> Mapping[str, Method]:
    """Name → method, of all that are registered, in the order in which they were."""
    return MappingProxyType(_METHODS)


def _check_name(name: object) -> None:
    if callable(name):
        raise InputError("register was given no name; write @tr.baselines.register('my_method')")
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        raise InputError(f"name = {name!r}, expected a word of letters, digits and _ such as 'my_method'")


def _check_needs(name: str, needs: object) -> None:
    known = get_args(Need)
    if isinstance(needs, str) or not isinstance(needs, Sequence):
        raise InputError(f"needs = {needs!r} of method {name!r}, expected several of {known}, such as ('seed',)")
    for need in needs:
        if need not in known:
            raise InputError(
                f"method {name!r} needs {need!r}, expected some of {', '.join(known)}; {nearest(str(need), known)}"
            )


def _defaults(name: str, function: object) -> dict[str, Any]:
    """Options of a function and their defaults.

    Raises:
        InputError: no function, or one that cannot be called with an observation alone.
    """
    if not callable(function):
        raise InputError(f"method {name!r} is {type(function).__name__}, expected a function of an observation")
    try:
        first, *rest = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise InputError(
            f"method {name!r} says no arguments, expected def {name}(observation, *, option=default)"
        ) from None
    if first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise InputError(f"method {name!r} begins with {first}, expected an observation: def {name}(observation, *, …)")
    options = [parameter for parameter in rest if parameter.kind not in (first.VAR_POSITIONAL, first.VAR_KEYWORD)]
    for option in options:
        if option.default is option.empty or option.kind is option.POSITIONAL_ONLY:
            raise InputError(
                f"option {option.name!r} of method {name!r} has no default, or no name; write *, {option.name}=…"
            )
        if option.name in _OBSERVE:
            raise InputError(
                f"option {option.name!r} of method {name!r} is an argument of tr.observe; name it otherwise"
            )
    return {option.name: option.default for option in options}
