"""Numbers that hide tokens: where a number stands for "masked", and where it says so to the last bit.

Libraries mask by filling in or adding a very negative number. It hides a token only while it lies so far below all
visible logits of its row that its exponential is exactly zero. Otherwise it is a number like any other: the model
attends to the token. So a number is called a mask where that was seen (``lineage.verify``, from the weights) or is
proved (``fused_mask``, from the size of the logits), and stays the number that it is everywhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention_mask import allowed

FILL = -1e3
"""What is added to logits is meant to hide if it is this or less wherever it is not zero; ALiBi goes on from zero."""


def fills(term: Tensor) -> Tensor | None:
    """Where the numbers of ``term``, which is added to logits, are meant to hide a token; None where nowhere.

    They are where all other numbers are zero and these at most ``FILL``, and where they are next to the least number of
    their type.
    """
    if not term.numel() or float(term.amin()) > FILL:
        return None
    hidden = term <= FILL
    if bool(term.masked_fill(hidden, 0).any()):
        hidden = ~allowed(term)
        return hidden if bool(hidden.any()) else None
    return hidden


def widened(term: Tensor) -> Tensor:
    """``term`` in single precision or wider, where the least number of a narrow type is a number like any other."""
    return term.to(torch.promote_types(term.dtype, torch.float32))


def called(hidden: Tensor, bias: Tensor | None) -> Tensor:
    """The mask that hides, bool where nothing else is added."""
    return ~hidden if bias is None else torch.where(hidden, -torch.inf, bias)


def drowned(hidden: Tensor, bias: Tensor | None) -> Tensor:
    """The same as numbers, the least of their type where hidden: a row that is hidden throughout is uniform."""
    numbers = torch.zeros_like(hidden, dtype=torch.float32) if bias is None else widened(bias)
    return torch.where(hidden, torch.finfo(numbers.dtype).min, numbers)


def in_dtype(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Added numbers in another floating type, in which all that are finite stay finite."""
    if dtype.itemsize >= mask.dtype.itemsize:
        return mask.to(dtype)
    return torch.where(mask == -torch.inf, mask, mask.clamp(min=torch.finfo(dtype).min)).to(dtype)


_UNDERFLOW = {torch.float64: 746.0}  # e^−746 is zero in double precision, e^−104 in single precision
_SHARP = 4e-3  # a fill that rounds logits by less leaves them as they are


def fused_mask(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor | None:
    """The mask of a fused call, whose weights nobody sees: bool or −∞ only where hidden logits must underflow.

    |q·k| ≤ ‖q‖‖k‖ bounds all logits, so that a fill further below than twice that and the underflow of the
    exponential is proved to hide. Every other finite number stays what it is. A row without any visible token is
    kept with its numbers, or, where these drown the logits, uniform, as the kernel computes it.

    Args:
        q: (…, H, N, d).
        k: (…, H or fewer, M, d).
        scale: factor of the logits.
        mask: bool or added to the logits, broadcastable to (…, H, N, M).
    """
    if mask is None or mask.dtype == torch.bool or mask.is_meta:
        return mask
    hidden = fills(mask)
    if hidden is None:
        return mask
    dtype, numbers = torch.promote_types(q.dtype, torch.float32), widened(mask)
    finite = hidden & (numbers > -torch.inf)
    if not bool(finite.any()):
        return called(hidden, _bias(mask, hidden))
    highest = float(numbers.masked_fill(~finite, -torch.inf).amax())
    lowest = float(numbers.masked_fill(hidden, torch.inf).amin())
    rounding = torch.finfo(q.dtype).eps * abs(highest)
    size = abs(scale) * float(_longest(q, dtype) * _longest(k, dtype))
    if not lowest - highest - 2 * size - 2 * rounding > _UNDERFLOW.get(q.dtype, 104.0):
        return numbers
    if not bool(hidden.all(-1).any()):
        return called(hidden, _bias(mask, hidden))
    return numbers if rounding < _SHARP else numbers.masked_fill(finite, torch.finfo(numbers.dtype).min)


def _longest(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1, dtype=dtype).amax()


def _bias(numbers: Tensor, hidden: Tensor) -> Tensor | None:
    rest = numbers.masked_fill(hidden, 0)
    return rest if bool(rest.any()) else None
