"""Which way a product is taken on the device path, decided once for each chain and precision, and kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..base import OPPOSITE
from ..logits import Logits
from . import kernels
from .fused import NoKernelError, kernel_dtype, sums_dtype
from .halves import HALVES
from .scaled import Side, Way, Weighted, fitted


def own_kernel(operator: Logits, dtype: torch.dtype, rough: bool) -> bool:
    """Whether our own kernel takes products with vectors of a dtype; ``rough`` asks for half precision instead."""
    if dtype != torch.float32 or rough:
        return False
    return kernels.available(operator.device, operator.q.dtype, operator.q.shape[-1])


@dataclass(frozen=True)
class Apart:
    """Chains of one batch that are taken in different ways, each with its own.

    Attributes:
        parts: places in the flattened batch, and the operator of these.
        order: where each chain stands in the parts, one after the other.
        batch: the leading dimensions.
    """

    parts: tuple[tuple[Tensor, Logits], ...]
    order: Tensor
    batch: torch.Size

    def each(self, function: Callable[[Logits, Tensor], Tensor], x: Tensor | None = None) -> Tensor:
        """``function`` of the operator and of x (*batch, …) of each part, put together."""
        given = self.order if x is None else x.reshape(len(self.order), *x.shape[len(self.batch) :])
        found = torch.cat([function(part, given.index_select(0, places)) for places, part in self.parts])
        return found.index_select(0, self.order).reshape(*self.batch, *found.shape[1:])


def way_of(operator: Logits, way: Way, dtype: torch.dtype, rough: bool) -> Weighted | Apart | None:
    """What attention takes for A x or Aᵀx, kept; None where chunks of rows take it."""
    asked = kernel_dtype(operator.q.dtype, operator.device) if rough or dtype in HALVES else torch.float32
    for kind in dict.fromkeys((asked if asked in HALVES else torch.float32, torch.float32)):
        side = way, kind
        if side not in operator._weighted:
            try:
                operator._weighted[side] = _made(operator, side)
            except NoKernelError:
                operator._weighted[side] = None
        found = operator._weighted[side]
        if found is not None:
            return found
    return None


def _made(operator: Logits, side: Side) -> Weighted | Apart | None:
    way = side[0]
    first: Side = "ahead", normaliser_dtype(operator)
    if way == "back" and operator._bias is not None and first not in operator._weighted:
        # what A x takes gives the weights of Aᵀx: one look at both, where both fit
        ahead = _weights(operator, first)
        weighted = _weights(operator, side, ahead.log_sums())
        if bool(torch.stack([ahead.within(), weighted.within()]).all()):
            operator._weighted[first] = _ready(operator, "ahead", ahead)
            return _ready(operator, way, weighted)
    weighted, fits = fitted(_weights(operator, side))
    weighted = _ready(operator, way, weighted)
    if all(fits):
        return weighted
    if not any(fits):
        return None
    return _apart(operator, side, weighted, fits)


def _weights(operator: Logits, side: Side, r: Tensor | None = None) -> Weighted:
    """Of a side, before it is known whether its format holds them; ``r`` where the normalisers are not kept yet."""
    way, dtype = side
    q, k = operator._qk(dtype)
    bias, hidden, empty, triangle = operator._bias_at(torch.float32), operator.hidden_keys(), None, operator._triangle
    if way == "ahead":
        empty = operator._empty()
    else:
        q, k, triangle, hidden = k, q, OPPOSITE[triangle], operator._empty()
        if r is None:
            r = operator.log_normalisers(torch.float32)
        elif hidden is not None:
            r = r.masked_fill(hidden, math.inf)
        bias = -r.double()
    seen = None
    if hidden is not None and hidden.ndim == 1 and triangle == "full":  # keys that no chain sees are left out
        seen = (~hidden).nonzero()[:, 0]
        k = k.index_select(-2, seen)
        bias = None if bias is None else bias.expand(operator.shape[:-1]).index_select(-1, seen)
    return Weighted(q, k, bias, operator.scale, triangle, operator._largest_product(), empty, seen)


def _ready(operator: Logits, way: Way, weighted: Weighted) -> Weighted:
    """With what its answers are multiplied by."""
    if way == "back":
        weighted.after = _reach(operator, weighted)[..., None]
    elif weighted.factors is not None:
        weighted.after = 1 / weighted.means[..., None]
    return weighted


def _apart(operator: Logits, side: Side, weighted: Weighted, fits: list[bool]) -> Apart:
    flat = operator.reshape(len(fits))
    held = weighted.part(lambda t: t.reshape(len(fits), *t.shape[len(operator.batch) :]))
    parts = []
    for wanted in (True, False):
        places = torch.tensor([place for place, fit in enumerate(fits) if fit == wanted], device=operator.device)
        part = flat.index(places)
        part._weighted[side] = held.part(partial(torch.index_select, dim=0, index=places)) if wanted else None
        parts.append((places, part))
    order = torch.cat([places for places, _ in parts]).argsort()
    return Apart(tuple(parts), order, operator.batch)


def normaliser_dtype(operator: Logits) -> torch.dtype:
    """What normalisers in float32 are taken in: means of factors would be rounded by half precision."""
    return torch.float32 if operator._bias is not None else sums_dtype(operator.q.dtype, operator.device)


def _reach(operator: Logits, weighted: Weighted) -> Tensor:
    """exp(b_j + w_j + top), (*batch, N) in float32: what attention's mean is multiplied with in Aᵀx."""
    assert weighted.top is not None
    log = weighted.sums.double() + weighted.top
    bias = operator._bias_at(torch.float32)
    return (log if bias is None else log + bias).exp().float()


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """float32 for what is narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32
