"""Verification: whether q, k, scale and mask give the weights that the model computed, in every row of every head.

Between the product and the softmax anything may have been done that nobody can see: logits edited through ``.data`` or
``.numpy()``, a query tensor used again as a buffer, a mask that does not hide. So the weights are computed once more
from what would be recorded, some rows at a time, and the rows themselves are compared, not a product of them with a
vector: that costs as much, since both need the logits, and nothing can cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations

import torch
from torch import Tensor

from ...attention_mask import allowed
from ..masks import called, drowned, fills, in_dtype, widened
from ..quiet import exact
from .logits import Logits, Resolved

_PIECE = {"cpu": 2**19}  # numbers of weights that are computed at a time: what the cache holds
_PIECE_ELSEWHERE = 2**24
_SMALL = 1e-4  # total variation that a bias may add to the tolerance unseen
_MOST = 0.05, 0.2  # total variation that is never called rounding, in single precision and in half


@dataclass(frozen=True, eq=False)
class Explained:
    """softmax(scale · q kᵀ + mask), verified; mask and sinks as in ``AttentionRecord``."""

    q: Tensor
    k: Tensor
    scale: float
    mask: Tensor | None
    sinks: Tensor | None = None


def explained(logits: Logits, weights: Tensor) -> Explained | None:
    """q, k, scale and mask that give ``weights`` (…, H, N, M) to within rounding, or None.

    Numbers that are filled in or added in order to hide become a mask where the model gave all that they hide a
    weight of exactly zero, and stay what they are where it did not; what is overwritten with a number that does not
    hide has no such form. Rows in which nothing may be attended to are compared as well, unless the model has NaN
    there, or what half precision left. With sinks, ``weights`` are those before their column is dropped. Tensors on
    "meta" are explained when their shapes fit.
    """
    parts = logits.resolve(weights.shape[:-2])
    if parts is None:
        return None
    queries, keys = parts.q.shape[-2], parts.k.shape[-2]
    if weights.shape[-2:] != (queries, keys + (parts.sinks is not None)):
        return None
    if weights.is_meta:
        return Explained(parts.q, parts.k, parts.scale, _unseen(parts), parts.sinks)
    with exact(weights.device):
        for mask in _readings(parts, weights, logits.coarsest):
            found = Explained(parts.q, parts.k, parts.scale, mask, parts.sinks)
            if _fits(found, weights, logits.coarsest):
                return found
    return None


def _unseen(parts: Resolved) -> Tensor | None:
    """A mask of the right shape, of which nobody knows what it hides."""
    terms = [*parts.terms, *([] if parts.allowed is None else [parts.allowed])]
    return None if not terms else sum(terms[1:], start=terms[0])


def _readings(parts: Resolved, weights: Tensor, dtype: torch.dtype) -> Iterator[Tensor | None]:
    """What the mask may be, the reading that hides most first.

    In half precision some logits overflow where the least number is added to all of a row. What is left of it is no
    preference: the last reading calls such rows masked, whatever the model made of them.
    """
    hidden = None if parts.allowed is None else ~parts.allowed
    bias: Tensor | None = None
    numbers: Tensor | None = None  # all that was added, as it is
    meant = False
    wide = torch.promote_types(parts.q.dtype, torch.float32)
    for term in parts.terms:
        where = fills(term)
        if where is None:
            bias, numbers = _sum(bias, term, wide), _sum(numbers, term, wide)
            continue
        meant, numbers = True, _sum(numbers, widened(term), wide)
        hidden = where if hidden is None else hidden | where
        rest = term.masked_fill(where, 0)
        bias = _sum(bias, rest, wide) if bool(rest.any()) else bias
    if hidden is None:
        yield bias
        return
    blind = hidden.all(-1, keepdim=True)
    finite = bool(blind.any()) and not bool((weights[..., :1].isnan() & blind).any())
    yield drowned(hidden, bias) if finite else called(hidden, bias)
    if meant:
        assert numbers is not None
        yield numbers if parts.allowed is None else called(~parts.allowed, numbers)
        if finite and dtype.itemsize < 4:
            yield called(hidden, bias)


def _sum(total: Tensor | None, term: Tensor, dtype: torch.dtype) -> Tensor:
    return term if total is None else total.to(dtype) + term


def _fits(found: Explained, weights: Tensor, dtype: torch.dtype) -> bool:
    """Whether all rows agree in total variation, and what the mask hides weighs nothing.

    ``dtype`` is the one that rounded the logits.
    """
    rows = _Rows(found, weights, dtype)
    wrong = torch.zeros((), dtype=torch.bool, device=weights.device)
    for piece in _pieces(weights.shape, _PIECE.get(weights.device.type, _PIECE_ELSEWHERE)):
        wrong |= rows.are_wrong(piece)
        if wrong.device.type == "cpu" and bool(wrong):
            return False
    return not bool(wrong)


class _Rows:
    """Rows of weights as they are expected, and how far from them rounding may have taken the model's.

    If all logits of a row are known to within D, the total variation is at most tanh(D / 2). In single and double
    precision D comes from the bound d · ε · |q||k| of a product and three more roundings, of the model's
    logits and of these. In half precision, and of a large bias, that would say nothing, and the first-order bound
    Σ A (1 − A) |δ| is taken, twice.
    """

    def __init__(self, found: Explained, weights: Tensor, dtype: torch.dtype) -> None:
        self._found, self._weights = found, weights
        self._half = dtype.itemsize < 4
        self._wide = torch.promote_types(found.q.dtype, torch.float32)
        if not self._half and dtype.itemsize < self._wide.itemsize:
            self._wide = dtype
        keys = weights.shape[-1]
        own, stored = torch.finfo(self._wide), torch.finfo(weights.dtype)
        self._eps = torch.finfo(dtype).eps if self._half else own.eps
        self._product = max(found.q.shape[-1] * own.eps, _product_rounding(weights))
        # of the softmax: sums of M numbers, exponentials, and the type that the weights are stored in
        self._floor = own.eps * (16 + keys / 8) + stored.eps + keys * stored.smallest_normal * stored.eps
        self._added: Tensor | None = None  # what logits get, −∞ where they are hidden
        self._bias: Tensor | None = None  # size of what visible ones get
        self._hidden: Tensor | None = None
        self._blind: Tensor | None = None  # rows without any visible token
        if found.mask is not None:
            self._read(found.mask)

    def _read(self, mask: Tensor) -> None:
        seen = allowed(mask)
        blind = ~seen.any(-1, keepdim=True)
        if mask.dtype == torch.bool:
            self._added = torch.zeros_like(mask, dtype=self._wide).masked_fill_(~mask, -torch.inf)
        else:
            self._added, bias = in_dtype(mask, self._wide), mask.masked_fill(~seen, 0).abs_()
            largest = 3 * self._eps * float(bias.amax())
            if self._half or largest > _SMALL:
                self._bias = bias
            else:
                self._floor += largest / 2
        hidden = ~(seen | blind)
        self._hidden = hidden.to(self._wide) if bool(hidden.any()) else None  # faster to multiply with than bool
        self._blind = blind if bool(blind.any()) else None

    def are_wrong(self, piece: tuple[slice, ...]) -> Tensor:
        """Whether some row of a piece is not the model's; a bool tensor without dimensions."""
        given = _cut(self._weights, piece)
        expected, slack = self._expected(piece)
        distance = expected.sub_(given).abs_().sum(-1, keepdim=True) / 2
        right = distance <= slack
        if self._blind is not None:
            undefined = given[..., :1].isnan() | (expected[..., :1].isnan() if self._half else False)
            nothing = _cut(self._blind, piece) & undefined
            right, given = right | nothing, given.masked_fill(nothing, 0)
        if self._hidden is None:
            return ~right.all()
        keyed = given if self._found.sinks is None else given[..., :-1]
        return ~right.all() | (keyed * _cut(self._hidden, piece)).amax().bool()

    def _expected(self, piece: tuple[slice, ...]) -> tuple[Tensor, Tensor]:
        """Weights (…, n, M) of a piece, and the distance (…, n, 1) that they may have from the model's."""
        found, wide, heads = self._found, self._wide, (*piece[:-2], slice(None), slice(None))
        q = _cut(found.q, (*piece[:-1], slice(None))).to(wide) * found.scale
        k = _cut(found.k, heads).to(wide)
        logits = torch.matmul(q, k.mT)
        products = logits.abs() if self._half else logits
        if self._added is not None:
            logits += _cut(self._added, piece)
        if found.sinks is not None:
            sinks = found.sinks.to(wide)[:, None, None].expand(*logits.shape[:-1], 1)
            logits = torch.cat([logits, _cut(sinks, heads)], -1)
        expected = torch.softmax(logits, -1)
        size = torch.linalg.vector_norm(q, 2, -1, keepdim=True)
        size *= torch.linalg.vector_norm(k, 2, -1).amax(-1)[..., None, None]
        bias = None if self._bias is None else _cut(self._bias, piece)
        slack = (self._half_slack if self._half else self._slack)(expected, products, bias, size)
        return expected, slack.add_(self._floor)

    def _slack(self, expected: Tensor, products: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
        slack = ((self._product + 3 * self._eps) / 2 * size).tanh_()
        if bias is not None:  # only what has weight counts: a number that hides may be large
            slack += _first_order(expected, 3 * self._eps * bias)
        return slack.clamp_(max=_MOST[0])

    def _half_slack(self, expected: Tensor, products: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
        apart = products.mul_(1.5 * self._eps)
        if bias is not None:
            apart += bias * (self._eps / 2)
        return (_first_order(expected, apart) + self._product * size).clamp_(max=_MOST[1])


def _first_order(weights: Tensor, apart: Tensor) -> Tensor:
    """Twice the first-order bound of the total variation (…, n, 1), where logits are known to within ``apart``."""
    keyed = weights[..., : apart.shape[-1]] if apart.shape[-1] > 1 else weights
    return 2 * (keyed * (1 - keyed) * apart).sum(-1, keepdim=True)


def _product_rounding(weights: Tensor) -> float:
    """Relative rounding of products in single precision where PyTorch was allowed a faster, coarser one."""
    if weights.dtype == torch.float64:
        return 0.0
    return {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-7}[torch.get_float32_matmul_precision()]


def _pieces(shape: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Slices that cut (…, N, M) into pieces of at most ``most`` numbers, or single rows; rows stay whole."""
    sizes, steps = list(shape), [1] * len(shape)
    room, steps[-1] = most // max(1, sizes[-1]), sizes[-1]
    for dim in range(len(sizes) - 2, -1, -1):
        steps[dim] = max(1, min(sizes[dim], room))
        room //= max(1, sizes[dim])
    ranges = (
        [slice(i, i + step) for i in range(0, size, max(1, step))] for size, step in zip(sizes, steps, strict=True)
    )
    yield from combinations(*ranges)


def _cut(tensor: Tensor, piece: Sequence[slice]) -> Tensor:
    """The part of ``tensor``, which broadcasts to the shape that ``piece`` cuts."""
    parts = piece[len(piece) - tensor.ndim :]
    return tensor[tuple(slice(None) if size == 1 else part for size, part in zip(tensor.shape, parts, strict=True))]
