"""Observers of products and softmaxes: where hand-written attention begins and ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import multi_head
from ..journal import Journal
from ..quiet import Unnoticed
from ..record import Kind
from .einsum import product
from .fit import fits
from .follow import Rule
from .logits import Add, Fold, Logits, Scale
from .tags import Handed, Tags, Weights

T = Tensor
MATMUL = {torch.matmul, T.matmul, T.__matmul__, torch.bmm, T.bmm}
EINSUM = {torch.einsum, torch.functional.einsum}
BADDBMM = {torch.baddbmm, T.baddbmm, T.baddbmm_}
SOFTMAX = {functional.softmax, torch.softmax, T.softmax, torch.special.softmax}


def observers(journal: Journal, tags: Tags) -> dict[Any, Rule]:
    """Function → what to call after it, with (args, kwargs, result)."""
    ends = _Ends(journal, tags)
    table: dict[Rule, set[Any]] = {
        ends.matmul: MATMUL,
        ends.einsum: EINSUM,
        ends.baddbmm: BADDBMM,
        ends.softmax: SOFTMAX,
    }
    return {function: end for end, functions in table.items() for function in functions}


class _Ends:
    """Begins lineages at products, and ends them at the softmax or where it meets the values."""

    def __init__(self, journal: Journal, tags: Tags) -> None:
        self._journal, self._tags = journal, tags

    def matmul(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        a, b = (*args, *kwargs.values())[:2]
        if not self._consumed(a, b) and (min(a.ndim, b.ndim) >= 3 or a.ndim == b.ndim == 2):
            self._tags.put(out, Logits(a, b, out.dtype))

    def einsum(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        equation, *operands = args
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = list(operands[0])
        if not isinstance(equation, str) or len(operands) != 2:
            return
        a, b = operands
        if not self._consumed(a, b):
            reading = product(equation, a.ndim, b.ndim)
            if reading is not None:
                self._tags.put(out, Logits(a, b, out.dtype, reading))

    def baddbmm(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
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
        given = dict(zip(("input", "dim"), args, strict=False)) | kwargs
        logits_tensor, dim = given["input"], given.get("dim")
        if dim not in (-1, out.ndim - 1):
            return
        tag = self._tags.get(logits_tensor, writes=1 if out is logits_tensor else 0)
        logits = tag if isinstance(tag, Logits) and tag.matrix is None else None
        if out.ndim < 3 and logits is None:
            return  # a classifier's probabilities
        weights = Weights(logits)
        if out.ndim >= 3 and out.shape[-1] == out.shape[-2] > 1:
            self._write(weights, out, out)
        self._tags.put(out, weights)

    def _consumed(self, a: Tensor, b: Tensor) -> bool:
        """Whether an operand is a softmax; then this is where attention meets its values.

        Softmaxes that are not square, or have no dimension for heads or batch, count as attention
        only here: routers and classifiers never come to this point.
        """
        for operand in (a, b):
            tag = self._tags.get(operand)
            if isinstance(tag, Logits) or tag is None:
                continue
            weights, source = (tag.weights, tag.source) if isinstance(tag, Handed) else (tag, operand)
            if not weights.written:
                self._write(weights, source, operand)
            return True
        return False

    def _write(self, weights: Weights, out: Tensor, used: Tensor) -> None:
        """Write a softmax's result ``out`` down; ``used`` is what of it meets the values."""
        weights.written = True
        logits, weights.logits = weights.logits, None
        has_sink = logits is not None and logits.has_sink
        if has_sink and out.shape[-1] in used.shape[-2:]:  # the column was not dropped: it belongs to a key
            logits, has_sink = None, False
        with Unnoticed():
            call = self._journal.open(out)
            if call is None:
                return
            kind: Kind = "eager"
            inside = multi_head.running()
            if inside is not None:
                kind = "multi_head_attention"
                if out.ndim == 3 and out.shape[0] == inside[0] * inside[1]:
                    out = out.unflatten(0, inside)
                    logits = None if logits is None else logits.then(Fold(torch.Size(inside)))
            found = None if logits is None else logits.resolve(out.shape[:-2])
            if logits is not None and found is not None and fits(found, out, logits.dtype):
                self._journal.write_query_key(call, kind, found.q, found.k, found.scale, found.mask, sinks=found.sinks)
            else:
                self._journal.write_weights(call, "weights", out[..., :-1] if has_sink else out)
