"""Following of tensors through PyTorch's functions: what each is known to be, one rule a kind of function."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..mode import Observer
from .logits import Add, Append, Fold, Hide, Logits, Scale

T = Tensor
_Number = (int, float)
_GETTERS = {vars(torch._C.TensorBase)[name].__get__ for name in ("T", "mT", "H", "mH")}

SAME = {
    T.to, T.float, T.half, T.double, T.bfloat16, T.type, T.type_as, T.contiguous, T.detach, T.clone, torch.clone,
    torch.detach, functional.dropout, torch.dropout, T.cpu, T.cuda,
}  # fmt: skip
RESHAPED = {
    T.view, T.reshape, torch.reshape, T.unsqueeze, torch.unsqueeze, T.squeeze, torch.squeeze, T.flatten,
    torch.flatten, T.unflatten, torch.unflatten, T.view_as, T.reshape_as,
}  # fmt: skip
TAKEN_APART = {T.__getitem__, T.transpose, torch.transpose, T.permute, torch.permute, T.narrow, *_GETTERS}
MULTIPLIED = {T.mul, T.mul_, torch.mul, torch.multiply, T.multiply, T.multiply_, T.__mul__, T.__rmul__, T.__imul__}
DIVIDED = {
    T.div, T.div_, torch.div, torch.divide, torch.true_divide, T.divide, T.divide_, T.__truediv__, T.__itruediv__,
}  # fmt: skip
ADDED = {T.add, T.add_, torch.add, T.__add__, T.__radd__, T.__iadd__}
SUBTRACTED = {T.sub, T.sub_, torch.sub, torch.subtract, T.subtract, T.subtract_, T.__sub__, T.__isub__}
FILLED = {T.masked_fill, T.masked_fill_, torch.masked_fill}
CHOSEN = {torch.where, T.where}
JOINED = {torch.cat, torch.concat, torch.concatenate}
OVERWRITTEN = {T.__setitem__}


class Follower:
    """Rules; each is called with (args, kwargs, result) after the function ran."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags

    def rules(self) -> dict[Any, Observer]:
        """Function → rule."""
        table: dict[Observer, set[Any]] = {
            self.same: SAME,
            self.reshaped: RESHAPED,
            self.taken_apart: TAKEN_APART,
            self.multiplied: MULTIPLIED,
            self.divided: DIVIDED,
            self.added: ADDED,
            self.subtracted: SUBTRACTED,
            self.filled: FILLED,
            self.chosen: CHOSEN,
            self.joined: JOINED,
            self.overwritten: OVERWRITTEN,
        }
        return {function: rule for rule, functions in table.items() for function in functions}

    def judge(self, function: Any) -> tuple[Observer | None, bool]:
        """What else to call while something is followed; see ``AttentionMode``."""
        name = getattr(function, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):  # PyTorch's mark of a write into the first argument
            return self.overwritten, True
        return None, False

    def same(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Casts, copies, dropout."""
        if not self._tags or not args or out is args[0]:
            return
        tag = self._tags.get(args[0])
        if isinstance(tag, Logits) and out.is_floating_point():
            self._tags.put(out, tag if out.dtype.itemsize >= tag.coarsest.itemsize else replace(tag, cast=out.dtype))
        elif tag is not None:
            self._hand(args[0], tag, out)

    def reshaped(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Other leading dimensions; the last two must stay, or become grids and come back."""
        if not self._tags or not args or out is args[0]:
            return
        tag = self._tags.get(args[0])
        if isinstance(tag, Logits):
            if tag.matrix is not None:
                if out.shape[-2:] == tag.matrix:
                    self._tags.put(out, tag.gathered(out.shape[:-2]))
            elif out.shape[-2:] == args[0].shape[-2:]:
                self._tags.put(out, tag.then(Fold(out.shape[:-2])))
            elif _is_spread(args[0].shape, out.shape):
                self._tags.put(out, tag.spread(out.shape, args[0].shape[-2:]))
        elif tag is not None:
            self._hand(args[0], tag, out)

    def taken_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Slices and transpositions: logits are lost, weights are still on their way to the values."""
        if self._tags and args and isinstance(out, Tensor) and out is not args[0]:
            tag = self._tags.get(args[0])
            if isinstance(tag, Weights | Handed):
                self._hand(args[0], tag, out)

    def multiplied(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Scales."""
        if self._tags and args:
            self._scaled(args, kwargs, out, lambda by: by)

    def divided(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Inverse scales."""
        if self._tags and args and not kwargs.get("rounding_mode"):
            self._scaled(args, kwargs, out, lambda by: 1 / by, left_only=True)

    def added(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Masks and biases, on either side."""
        if self._tags and args:
            self._summed(args, kwargs, out, operator.pos)

    def subtracted(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A row's maximum, or a mask."""
        if self._tags and args:
            self._summed(args, kwargs, out, operator.neg, left_only=True)

    def filled(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """masked_fill with a number; whether that hides shows in the weights."""
        if not self._tags or not args:
            return
        logits = self._plain(args[0], out)
        mask, value = _argument(args, kwargs, 1, "mask"), _argument(args, kwargs, 2, "value")
        if logits is not None and isinstance(mask, Tensor) and _is_number(value):
            self._put_if_matrix(out, args[0], logits.then(Hide(mask, True, out.shape[:-2])))

    def chosen(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """where(allowed, logits, number), or the other way round."""
        if not self._tags or len(args) != 3:
            return
        condition, kept, other = args
        if condition.is_floating_point():  # logits.where(condition, other)
            condition, kept = kept, condition
        for logits_side, value, hidden in ((kept, other, False), (other, kept, True)):
            logits = self._plain(logits_side, out)
            if logits is not None and _is_number(value):
                self._put_if_matrix(out, logits_side, logits.then(Hide(condition, hidden, out.shape[:-2])))
                return

    def joined(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A column after the last one: an attention sink."""
        if not self._tags:
            return
        tensors, dim = _argument(args, kwargs, 0, "tensors"), _argument(args, kwargs, 1, "dim")
        if not isinstance(tensors, list | tuple) or len(tensors) != 2 or dim not in (-1, out.ndim - 1):
            return
        tag, column = self._tags.get(tensors[0]), tensors[1]
        if isinstance(tag, Logits) and tag.matrix is None and not tag.has_sink and column.shape[-1] == 1:
            self._tags.put(out, tag.then(Append(column)))

    def overwritten(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Any other write into a tensor: what it held is lost."""
        if self._tags and args:
            self._tags.drop(args[0])

    def _logits(self, value: Any, out: Any) -> Logits | None:
        """The tag of an operand; one that was just overwritten loses it, a rule may give it back."""
        if not isinstance(value, Tensor):
            return None
        tag = self._tags.get(value, writes=1 if out is value else 0)
        if out is value:
            self._tags.drop(value)
        return tag if isinstance(tag, Logits) else None

    def _plain(self, value: Any, out: Any) -> Logits | None:
        """The same where they are an ordinary matrix, without a sink: a mask of other shape could not be read."""
        logits = self._logits(value, out)
        return None if logits is None or logits.has_sink or logits.matrix is not None else logits

    def _scaled(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        factor: Callable[[Any], Any],
        left_only: bool = False,
    ) -> None:
        a, b = args[0], _argument(args, kwargs, 1, "other")
        for logits_side, by in ((a, b),) if left_only else ((a, b), (b, a)):
            logits = self._logits(logits_side, out)
            if logits is None:
                continue
            if isinstance(by, _Number) and by:
                self._tags.put(out, logits.then(Scale(factor(by))))
            elif isinstance(by, Tensor) and (by.numel() == 1 or (by.shape[-2:] == (1, 1) and logits.matrix is None)):
                self._put_if_matrix(out, logits_side, logits.then(Scale(factor(by))))
            return

    def _summed(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        sign: Callable[[Any], Any],
        left_only: bool = False,
    ) -> None:
        a, b = args[0], _argument(args, kwargs, 1, "other")
        alpha = kwargs.get("alpha", 1)
        for logits_side, term in ((a, b),) if left_only or alpha != 1 else ((a, b), (b, a)):
            logits = self._logits(logits_side, out)
            if logits is None:
                continue
            if isinstance(term, _Number):
                self._tags.put(out, logits)  # the same number everywhere: softmax does not see it
            elif isinstance(term, Tensor) and (not logits.has_sink or term.shape[-1:] == (1,)):
                self._put_if_matrix(out, logits_side, logits.then(Add(term, sign(alpha), out.shape[:-2])))
            return

    def _put_if_matrix(self, out: Tensor, before: Tensor, logits: Logits) -> None:
        if out.shape[-2:] == before.shape[-2:] and (logits.matrix is None or out.shape == before.shape):
            self._tags.put(out, logits)

    def _hand(self, source: Tensor, tag: Weights | Handed | Logits, out: Any) -> None:
        if isinstance(tag, Weights):
            self._tags.put(out, Handed(tag, source))
        elif isinstance(tag, Handed):
            self._tags.put(out, tag)


def _is_spread(matrix: torch.Size, grids: torch.Size) -> bool:
    """Whether (…, N, M) became (…, rows, columns, rows, columns)."""
    return (
        len(grids) == len(matrix) + 2
        and grids[:-4] == matrix[:-2]
        and (grids[-4] * grids[-3], grids[-2] * grids[-1]) == matrix[-2:]
    )


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, _Number)


@dataclass(eq=False)
class Weights:
    """The result of a softmax.

    Attributes:
        logits: where it came from; None where that is unknown.
        written: whether a record of it was considered already.
        owner: what was answered when it was told of; it comes back with the values.
    """

    logits: Logits | None
    written: bool = False
    owner: Any = None


@dataclass(frozen=True, eq=False)
class Handed:
    """A cast, reshaped, sliced or dropped-out softmax, on its way to the values."""

    weights: Weights
    source: Tensor  # the softmax's own result


Tag = Logits | Weights | Handed


class Tags:
    """Tensor → tag, for as long as the tensor lives and is not overwritten; nothing is written on the tensor."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], int | None, Tag]] = {}

    @property
    def entries(self) -> Mapping[int, object]:
        """What is tagged now, alive; for a quick look whether that is anything."""
        return self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tensor: Tensor, writes: int = 0) -> Tag | None:
        """The tag, or None; a tensor overwritten more than ``writes`` times since has none."""
        entry = self._entries.get(id(tensor))
        if entry is None:
            return None
        reference, version, tag = entry
        if reference() is tensor and (version is None or tensor._version == version + writes):
            return tag
        del self._entries[id(tensor)]
        return None

    def put(self, tensor: Tensor, tag: Tag) -> None:
        """Tag a tensor, instead of what it had."""
        key, entries = id(tensor), self._entries

        def forget(_: object) -> None:
            entries.pop(key, None)

        # inference tensors do not count how often they were written to
        version = None if tensor.is_inference() else tensor._version
        entries[key] = (weakref.ref(tensor, forget), version, tag)

    def drop(self, tensor: Tensor) -> None:
        """Forget a tensor."""
        self._entries.pop(id(tensor), None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
