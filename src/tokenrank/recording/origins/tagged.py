"""What is kept of tensors and of functions while patches are followed, and by what a move is known again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from . import moves
from .kinds import Kind
from .trail import Lost

Cells = Tensor | Lost


class Tagged(weakref.ref[Tensor]):
    """The cells of a tensor, while it lives."""

    __slots__ = ("cells", "place")

    def __new__(cls, tensor: Tensor, forget: Callable[[Any], None], cells: Cells) -> Tagged:
        """A reference that says to ``forget`` when the tensor is gone."""
        return super().__new__(cls, tensor, forget)

    def __init__(self, tensor: Tensor, forget: Callable[[Any], None], cells: Cells) -> None:
        super().__init__(tensor, forget)  # type: ignore[call-arg]
        self.place, self.cells = id(tensor), cells


def forget(known: dict[int, Tagged], gone: Tagged) -> None:
    """A tensor is gone."""
    known.pop(gone.place, None)


class Step(NamedTuple):
    """What to do after a function; ``always`` where it may begin something, or has to say that there is nothing."""

    run: Callable[[Any, dict[str, Any], Any], Any]
    always: bool


class Steps(dict[Any, "Step | None"]):
    """Function → step; made when it is met first."""

    def __init__(self, make: Callable[[Any], Step | None]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, function: Any) -> Step | None:
        step = self[function] = self._make(function)
        return step

    def clear(self) -> None:
        """Forget all, and who makes them."""
        super().clear()
        self._make = lambda function: None


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors among arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors(inner)


def fitting(found: Any, out: Any) -> Any:
    """Cells of a result, or of each of several; lost where they are of another shape."""
    if isinstance(found, list | tuple):
        return [fitting(cells, tensor) for cells, tensor in zip(found, tensors(out), strict=True)]
    fits = not isinstance(found, Tensor) or all(moves.fits(found, tensor.shape) for tensor in tensors(out))
    return found if fits else Lost("a change of shape")


def move_key(kind: Kind, func: Any, cells: Cells, args: Any, out: Any) -> Hashable:
    """By which the same move of the same cells is known again."""
    if kind == "reshape":
        return kind, id(cells), args[0].shape, out.shape
    rest = args[1:]
    try:
        hash(rest)
    except TypeError:  # slices, lists
        rest = repr(rest)
    return func, id(cells), args[0].shape, rest
