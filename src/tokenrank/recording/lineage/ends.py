"""Ends of hand-written attention: the product it begins with, the softmax it ends in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..mode import Observer
from .follow import Handed, Tags, Weights
from .logits import Add, Logits, Scale, product

T = Tensor
MATMUL = {torch.matmul, T.matmul, T.__matmul__, torch.bmm, T.bmm}
EINSUM = {torch.einsum, torch.functional.einsum}
BADDBMM = {torch.baddbmm, T.baddbmm, T.baddbmm_}
SOFTMAX = {functional.softmax, torch.softmax, T.softmax, torch.special.softmax}


@dataclass(frozen=True, eq=False)
class HandWritten:
    """Attention written by hand, of which the softmax ran.

    Attributes:
        weights: the softmax's own result (…, N, M), part of whatever graph it is in.
        logits: where they came from; None where that is unknown.
        has_sink: whether the last column belongs to no key and was dropped.
    """

    weights: Tensor
    logits: Logits | None
    has_sink: bool = False


class Ends:
    """Begins lineages at products, and ends them at the softmax or where it meets the values.

    Args:
        tags: what is known of tensors; shared with the follower.
        ended: told of every attention once: of a square one at its softmax, of others where they meet the values.
        met: told of the values (…, M, e) that weights are multiplied with, and of what ``ended`` answered about these.
    """

    def __init__(
        self,
        tags: Tags,
        ended: Callable[[HandWritten], Any],
        met: Callable[[Any, Tensor], None] | None = None,
    ) -> None:
        self._tags, self._ended, self._met = tags, ended, met

    def observers(self) -> dict[Any, Observer]:
        """Function → what to call after it, with (args, kwargs, result)."""
        table: dict[Observer, set[Any]] = {
            self._matmul: MATMUL,
            self._einsum: EINSUM,
            self._baddbmm: BADDBMM,
            self.softmax: SOFTMAX,
        }
        return {function: end for end, functions in table.items() for function in functions}

    def is_followed(self, logits: Tensor) -> bool:
        """Whether these are the product of queries and keys, scaled and masked perhaps."""
        return isinstance(self._tags.get(logits), Logits)

    def _matmul(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        a, b = (*args, *kwargs.values())[:2]
        if not self._consumed(a, b) and (min(a.ndim, b.ndim) >= 3 or a.ndim == b.ndim == 2):
            self._tags.put(out, Logits(a, b, out.dtype))

    def _einsum(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        equation, *operands = args
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = list(operands[0])
        if not isinstance(equation, str) or len(operands) != 2:
            return
        a, b = operands
        if not self._consumed(a, b, equation):
            reading = product(equation, a.ndim, b.ndim)
            if reading is not None:
                self._tags.put(out, Logits(a, b, out.dtype, reading))

    def _baddbmm(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        given = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | kwargs
        if self._consumed(given["batch1"], given["batch2"]) or out is given["input"]:
            return
        logits = Logits(given["batch1"], given["batch2"], out.dtype)
        if given.get("alpha", 1) != 1:
            logits = logits.then(Scale(given["alpha"]))
        if given.get("beta", 1):
            logits = logits.then(Add(given["input"], given.get("beta", 1), out.shape[:-2]))
        self._tags.put(out, logits)

    def softmax(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Take note of a softmax that ran."""
        logits_tensor, dim = softmax_arguments(args, kwargs)
        if dim not in (-1, out.ndim - 1):
            return
        tag = self._tags.get(logits_tensor, writes=1 if out is logits_tensor else 0)
        logits = tag if isinstance(tag, Logits) and tag.matrix is None else None
        if out.ndim < 3 and logits is None:
            return  # a classifier's probabilities
        weights = Weights(logits)
        if out.ndim >= 3 and out.shape[-1] == out.shape[-2] > 1:
            self._end(weights, out, out)
        self._tags.put(out, weights)

    def _consumed(self, a: Tensor, b: Tensor, equation: str | None = None) -> bool:
        """Whether an operand is a softmax; then this is where attention meets its values.

        Softmaxes that are not square, or have no dimension for heads or batch, count as attention
        only here: routers and classifiers never come to this point.
        """
        for side, operand in enumerate((a, b)):
            tag = self._tags.get(operand)
            if isinstance(tag, Logits) or tag is None:
                continue
            weights, source = (tag.weights, tag.source) if isinstance(tag, Handed) else (tag, operand)
            if not weights.written:
                self._end(weights, source, operand)
            if self._met is not None:
                values = _values(a, b, side, equation)
                if values is not None:
                    self._met(weights.owner, values)
            return True
        return False

    def _end(self, weights: Weights, out: Tensor, used: Tensor) -> None:
        """Tell of a softmax's result ``out``; ``used`` is what of it meets the values."""
        weights.written = True
        logits, weights.logits = weights.logits, None
        has_sink = logits is not None and logits.has_sink
        if has_sink and out.shape[-1] in used.shape[-2:]:  # the column was not dropped: it belongs to a key
            logits, has_sink = None, False
        weights.owner = self._ended(HandWritten(out, logits, has_sink))


def softmax_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, int | None]:
    """The logits and the dimension that a softmax was given."""
    given = dict(zip(("input", "dim"), args, strict=False)) | kwargs
    return given["input"], given.get("dim")


def _values(a: Tensor, b: Tensor, side: int, equation: str | None) -> Tensor | None:
    """(…, M, e) of a product of which operand ``side`` is the weights; None where its equation is not read."""
    values = (b, a)[side]
    if equation is None:
        return values if side == 0 else values.mT  # vᵀ Aᵀ
    operands, arrow, out = equation.replace(" ", "").partition("->")
    names = operands.split(",")
    if not arrow or "." in equation or len(names) != 2:
        return None
    inside, outside = names[1 - side], names[side]
    keys = [axis for axis in inside if axis in outside and axis not in out]
    if len(keys) != 1:
        return None
    shared = [axis for axis in inside if axis in outside and axis in out]
    own = [axis for axis in inside if axis not in outside]
    moved = values.permute([inside.index(axis) for axis in (*shared, *keys, *own)])
    return moved.flatten(len(shared) + 1) if own else moved[..., None]
