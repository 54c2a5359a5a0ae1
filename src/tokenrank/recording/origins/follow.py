"""Following of patches through a running model: which cell of a convolution's output each token holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import faults
from ..quiet import Unnoticed
from . import moves
from .cut import Cutter
from .kinds import Kind, kind_of, name_of
from .tagged import Step, Steps, Tagged, fitting, forget, move_key, tensors
from .trail import Album, Lost, Trail

Cells = Tensor | Lost
T = TypeVar("T")
_MOST = 4096
_SMALL = 2**16  # numbers that are worth comparing
_FUNCTIONS: dict[Any, tuple[Kind, str]] = {}  # those of PyTorch, met once
_ALONE = frozenset({"same", "first", "linear"})
_MOVING = frozenset({"move", "reshape"})


class LostError(Exception):
    """A rule met a tensor whose patches are lost."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.why)
        self.lost = lost


class Origins:
    """Knows of tensors which cells of pictures their entries were made of.

    A tensor's cells are a tensor of whole numbers of as many dimensions, of size 1 along those in which nothing
    changes, such as features. They are moved as the tensor is. What is done to every token for itself (norms, linear
    layers, activations, attention: a token is where its query is) leaves them as they are; what makes one token of
    several, or is not known here, loses them. A convolution of a picture makes cells. One of a map keeps those of the
    map, or cuts its picture anew where the map is of another size and its cells are row by row.

    It is told of every call by the mode that records, before attention is: see ``steps``.

    Attributes:
        steps: function → what to call after it, with (args, kwargs, result); it returns the result. None for functions
            whose results hold no patches.
        known: what is known of tensors. While that is nothing, only steps that may begin something need be called.
    """

    def __init__(self) -> None:
        self._album = Album()
        self._cutter = Cutter(self._album)
        self.known: dict[int, Tagged] = {}
        self._forget = partial(forget, self.known)
        self.steps = Steps(self._step)
        self._done: dict[Hashable, tuple[Any, Any]] = {}
        self._equal: dict[Hashable, Tensor] = {}
        self._latest: Cells | None = None
        self._trail: tuple[Tensor, Trail | Lost] | None = None  # layers mostly have the same

    def _step(self, func: Any) -> Step | None:
        told = _FUNCTIONS.get(func)
        if told is None:
            told = _FUNCTIONS[func] = kind_of(func), name_of(func)
        kind, name = told
        if kind == "made":
            return None
        if name == "softmax" or kind == "attention":
            return Step(partial(self._seen, kind, name, func), always=True)
        quick = self._alone if kind in _ALONE else self._moving if kind in _MOVING and name != "iter" else self._seen
        return Step(partial(quick, kind, name, func), always=kind == "convolution")

    def _seen(self, kind: Kind, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
        """See what became of the cells."""
        if not isinstance(out, Tensor | list | tuple) and kind != "assign" and name != "iter":
            return out
        if name == "iter":
            out = list(out)
        try:
            self._follow(kind, name, func, args, kwargs, out)
        except LostError as error:
            self._lose(out, error.lost.why)
        except Exception as error:  # of shapes or arguments that no rule foresaw
            faults.note(error)
            self._lose(out, f"{name} ({type(error).__name__})")
        return iter(out) if name == "iter" else out

    def _alone(self, kind: Kind, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
        """The quick way for most calls of a model: one tensor of tokens, and each stays where it is."""
        known = self.known
        entry = known.get(id(args[0])) if args else None
        for other in (*args[1:], *kwargs.values()) if kwargs else args[1:]:
            found = known.get(id(other))
            if found is not None and (entry is None or found.cells is not entry.cells or kind == "linear"):
                return self._seen(kind, name, func, args, kwargs, out)
        if entry is None or out is args[0]:
            return out
        if not isinstance(out, Tensor):
            return self._seen(kind, name, func, args, kwargs, out)
        cells = entry.cells
        before, after = args[0].shape, out.shape
        if before != after or kind == "linear":
            mixed = kind == "linear" and before[:-1] == after[:-1]
            if not (mixed and isinstance(cells, Tensor) and cells.shape[-1] == 1):
                return self._seen(kind, name, func, args, kwargs, out)
        known[id(out)] = Tagged(out, self._forget, cells)
        return out

    def _moving(self, kind: Kind, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
        """The quick way for moves that were made before, mostly in another layer."""
        if kwargs or not args or not isinstance(args[0], Tensor):
            return self._seen(kind, name, func, args, kwargs, out)
        source = args[0]
        entry = self.known.get(id(source))
        if entry is None:
            return out  # numbers of patches choose among things that are none, perhaps
        key = move_key(kind, func, entry.cells, args, out)
        found = None if key is None else self._done.get(key)
        if found is None:
            return self._seen(kind, name, func, args, kwargs, out)
        if isinstance(out, Tensor):
            self._put(out, found[0])
        else:
            self._write(args, out, found[0])
        return out

    def latest(self) -> Trail | Lost | None:
        """The trail of the attention that ran last; None where its tokens were made of no picture that was seen."""
        cells = self._latest
        if cells is None or isinstance(cells, Lost):
            return cells
        return self._once(("trail", id(cells)), lambda: self._same_trail(cells), cells)

    def _same_trail(self, cells: Tensor) -> Trail | Lost:
        """Layers mostly have the same."""
        before = self._trail
        if before is None or before[0].shape != cells.shape or not torch.equal(before[0], cells):
            self._trail = before = cells.clone(), self._album.trail(cells)
        return before[1]

    def let_go(self) -> None:
        """Forget all tensors, as between two calls of a model; not what became of others like them."""
        self.known.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.let_go()
        self._cutter.clear()
        self._done.clear()
        self._equal.clear()
        self.steps.clear()

    def _once(self, key: Hashable, make: Callable[[], T], *kept: Any) -> T:
        """What ``make`` returned for the same cells before; ``kept`` are those, so that their numbers stay in use."""
        if key not in self._done:
            if len(self._done) > _MOST:
                self._done.clear()
                self._equal.clear()
            with Unnoticed():
                self._done[key] = make(), kept
        found: T = self._done[key][0]
        return found

    def _same(self, found: Any) -> Any:
        """The tensor that says the same already, so that the next layer's steps are those of this one."""
        if isinstance(found, list):
            return [self._same(cells) for cells in found]
        if not isinstance(found, Tensor) or found.numel() > _SMALL:
            return found
        return self._equal.setdefault((found.shape, found.contiguous().numpy().tobytes()), found)

    def cells(self, tensor: Any) -> Cells | None:
        """What is known of a tensor; None of one that holds no patches."""
        entry = self.known.get(id(tensor))
        return None if entry is None else entry.cells

    def _put(self, tensor: Any, cells: Cells | None) -> None:
        if cells is None:
            self.known.pop(id(tensor), None)
        else:
            self.known[id(tensor)] = Tagged(tensor, self._forget, cells)

    def _lose(self, out: Any, why: str) -> None:
        for tensor in tensors(out):
            self._put(tensor, Lost(why))

    def _follow(self, kind: Kind, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        if kind == "convolution":
            source = args[0] if args else kwargs["input"]
            for result in tensors(out):  # a pool may tell where its maxima are
                self._put(result, self._cutter.convolved(name, source, self.cells(source), result))
            return
        if kind == "window":
            source = args[0] if args else kwargs["input"]
            with Unnoticed():
                self._put(out, self._cutter.windows(name, args, kwargs, self.cells(source), out))
            return
        if kind == "attention":
            self._attended(args, kwargs, out)
            return
        given = [cells for t in tensors((args, kwargs)) if (cells := self.cells(t)) is not None]
        if not given:
            if kind == "same" and name == "softmax":
                self._latest = None
            return
        if kind == "unknown":
            self._lose(out, name)
            return
        key = self._key(kind, func, args, kwargs, out, given)
        if key is None:
            with Unnoticed():
                found = fitting(self._moved(kind, name, func, args, kwargs, out), out)
        else:
            found = self._once(
                key, lambda: self._same(fitting(self._moved(kind, name, func, args, kwargs, out), out)), given
            )
        if kind == "same" and name == "softmax":
            self._latest = self._tokens(found, out)
        if kind != "assign":
            self._write(args, out, found)

    def _key(self, kind: Kind, func: Any, args: Any, kwargs: dict[str, Any], out: Any, given: Any) -> Hashable | None:
        """By which the same is known again; None where numbers in tensors decide, or where it is not worth it."""
        if kind == "same" and len(given) == 2 and all(isinstance(cells, Tensor) for cells in given):
            return kind, id(given[0]), id(given[1]), out.shape
        if kind not in _MOVING or kwargs or len(given) > 1 or not isinstance(args[0], Tensor):
            return None
        if kind == "move" and next(tensors(args[1:]), None) is not None:
            return None
        return move_key(kind, func, given[0], args, out)

    def _moved(self, kind: Kind, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
        source = args[0] if args else next(iter(kwargs.values()))
        first = self.cells(source)
        found: Any
        if kind in ("same", "first"):
            operands = [source] if kind == "first" else tensors((args, kwargs))
            found = moves.combined([(t, self.cells(t)) for t in operands], out)
        elif kind == "linear":
            found = moves.linear(first, out)
        elif kind in ("product", "einsum"):
            operands = [(t, self.cells(t)) for t in tensors((args, kwargs)) if t.ndim]
            found = (
                moves.product(operands[-2], operands[-1], out) if kind == "product" else moves.einsum(args[0], operands)
            )
        elif kind == "reshape":
            found = moves.reshaped(first, source.shape, out.shape)
        elif kind == "reduce":
            found = moves.reduced(first, source, args[1:], kwargs, out)
        elif kind == "cat":
            found = self._joined(args, kwargs, out)
        elif kind == "assign":
            found = self._assigned(args)
        elif kind == "scatter":
            found = self._scattered(name, args, kwargs, out)
        elif isinstance(first, Lost):
            found = first
        elif first is None and not isinstance(source, list | tuple):
            found = None  # numbers of patches choose among things that are none
        else:
            found = moves.moved(func, self._full(source), args[1:], kwargs, kind == "pad")
        return found

    def _write(self, args: Any, out: Any, found: Any) -> None:
        if args and out is args[0] and found is not None and self.cells(out) is None and out._base is not None:
            self._put(out._base, Lost("a write into a part of it"))
        if isinstance(found, list | tuple):
            for tensor, cells in zip(tensors(out), found, strict=True):
                self._put(tensor, cells)
            return
        for tensor in tensors(out):
            self._put(tensor, found)

    def _full(self, source: Any) -> Any:
        """The cells of a tensor, or of several, in its own shape."""
        if isinstance(source, list | tuple):
            return [self._full(one) for one in source]
        cells = self.cells(source)
        if isinstance(cells, Lost):
            raise LostError(cells)
        return (torch.full((), -1, device="cpu") if cells is None else cells).expand(source.shape)

    def _joined(self, args: Any, kwargs: dict[str, Any], out: Tensor) -> Cells | None:
        given = args[0] if args else kwargs["tensors"]
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        pairs = [(t, self.cells(t)) for t in given if t.shape != (0,)]
        return moves.joined(pairs, dim % out.ndim)

    def _assigned(self, args: Any) -> Any:
        """``target[index] = value``: there is no result, the target has changed."""
        target, index, value = args
        for cells in (self.cells(target), self.cells(value)):
            if isinstance(cells, Lost):
                self._put(target, cells)
                return None
        if not isinstance(value, Tensor) or (value.numel() == 1 and self.cells(value) is None):
            return None  # a number in the place of a token, which stays where it is
        cells = self._full(target).clone()
        cells[moves.on_cpu(index)] = self._full(value)
        self._put(target, moves.collapsed(cells))
        return None

    def _scattered(self, name: str, args: Any, kwargs: dict[str, Any], out: Tensor) -> Cells | None:
        whole, *between = list(args) + list(kwargs.values())
        source = between.pop()
        if isinstance(source, int | float):
            return moves.combined([(whole, self.cells(whole))], out)
        for cells in (self.cells(whole), self.cells(source)):
            if isinstance(cells, Lost):
                return cells
        mask = [moves.on_cpu(b) for b in between]
        if name == "masked_scatter":
            mask = [mask[0].expand(out.shape)]
        full = self._full(whole).expand(out.shape)
        return moves.collapsed(getattr(torch.Tensor, name)(full.clone(), *mask, self._full(source)))

    def _attended(self, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        query = args[0] if args else kwargs["query"]
        key = args[1] if len(args) > 1 else kwargs["key"]
        result = out if isinstance(out, Tensor) else out[0]
        cells, keys = moves.linear(self.cells(query), result), self.cells(key)
        self._latest = self._tokens(cells, query)
        self._put(result, cells)
        if key.shape[-2] == query.shape[-2] and isinstance(cells, Tensor) and keys is not cells:
            if isinstance(keys, Lost):
                self._latest = keys
            elif keys is not None and not self._once(
                ("alike", id(cells), id(keys)), lambda: moves.alike(cells, keys), cells, keys
            ):
                self._latest = Lost("queries and keys of different patches")

    def _tokens(self, cells: Cells | None, matrix: Tensor) -> Cells | None:
        """Cells of the second last dimension, with the leading ones."""
        if not isinstance(cells, Tensor):
            return cells
        count = matrix.shape[-2]
        return self._once(("tokens", id(cells), count), lambda: moves.tokens(cells, count), cells)
