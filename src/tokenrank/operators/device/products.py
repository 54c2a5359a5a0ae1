"""Products of a matrix-free chain on the device path, both directions.

A float64 vector, a mask of its own and what no kernel holds are taken by chunks of rows; all else by fused kernels with
weights in the values (``scaled``), or by our own kernel where it can be had (``kernels``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from ..base import BLOCK_ROWS, OPPOSITE, block_bytes
from ..logits import Logits
from ..mass import keeping_mass_of_parts
from . import kernels
from .fused import NoKernelError
from .path import logits_dtype
from .ways import Apart, at_least_single, normaliser_dtype, own_kernel, way_of


def ahead(operator: Logits, x: Tensor, rough: bool = False) -> Tensor:
    """A x for x (*batch, N, c), in the dtype of x.

    Args:
        operator: the chain.
        x: what is averaged.
        rough: take float32 by half precision, too, where queries and keys are of it: for inner solvers.
    """
    if x.dtype == torch.float64 or operator.mask is not None:
        return by_rows(operator, x, False)
    if own_kernel(operator, x.dtype, rough):
        # a column of ones says what rounding makes of the sum of a row
        both = _by_own_kernel(operator, torch.cat([x, torch.ones_like(x[..., :1])], -1), False)
        y = both[..., :-1] / torch.where(both[..., -1:] > 0, both[..., -1:], 1.0)
    else:
        taken = way_of(operator, "ahead", x.dtype, rough)
        if isinstance(taken, Apart):
            return taken.each(lambda part, given: ahead(part, given, rough), x)
        if taken is None:
            return by_rows(operator, x, False)
        try:
            y = taken.product(x.float())
        except NoKernelError:
            return by_rows(operator, x, False)
    empty = operator._empty()
    return (y if empty is None else y.masked_fill(empty[..., None], 0.0)).to(x.dtype)


def back(operator: Logits, x: Tensor, rough: bool = False) -> Tensor:
    """Aᵀ x for x (*batch, N, c), in the dtype of x; see ``ahead``."""
    if x.dtype == torch.float64 or operator.mask is not None:
        return by_rows(operator, x, True)
    if own_kernel(operator, x.dtype, rough):
        return keeping_mass_of_parts(lambda part: _by_own_kernel(operator, part, True), x)
    taken = way_of(operator, "back", x.dtype, rough)
    if isinstance(taken, Apart):
        return taken.each(lambda part, given: back(part, given, rough), x)
    if taken is None:
        return by_rows(operator, x, True)
    try:
        return keeping_mass_of_parts(taken.product, x.float()).to(x.dtype)
    except NoKernelError:
        return by_rows(operator, x, True)


def log_normalisers(operator: Logits, dtype: torch.dtype) -> Tensor:
    """r_i = log Σ_j exp(s_ij), (*batch, N), in float32, or in float64 for float64."""
    if dtype != torch.float64 and operator.mask is None:
        taken = way_of(operator, "ahead", normaliser_dtype(operator), False)
        if isinstance(taken, Apart):
            return taken.each(lambda part, _: log_normalisers(part, dtype))
        with suppress(NoKernelError):
            if taken is not None:
                return taken.log_sums()
    dtype = at_least_single(dtype)
    source = stored_in(operator, dtype)
    return torch.cat([source.logits(*block, dtype).logsumexp(-1) for block in source.blocks(dtype)], -1)


def by_rows(operator: Logits, x: Tensor, transposed: bool) -> Tensor:
    """A x or Aᵀ x by chunks of rows in the precision of x, float32 at least; some heads at a time."""
    operator._empty()  # looked for once, and not in every part
    dtype = logits_dtype(at_least_single(x.dtype), operator.device)
    heads, n = operator.batch.numel(), operator.num_tokens
    flat, columns = operator.reshape(heads), x.to(dtype).reshape(heads, n, x.shape[-1])
    room = block_bytes(operator.device)
    some = max(1, room // (n * dtype.itemsize * max(BLOCK_ROWS, 2 * operator.q.shape[-1])))
    parts = []
    for first in range(0, heads, some):
        chosen = slice(first, first + some)
        part, given = stored_in(flat.index(chosen), dtype), columns[chosen]
        if transposed:
            y = given.new_zeros(given.shape[0], given.shape[2], n)
            for start, stop in part.blocks(dtype):
                y += given[:, start:stop].mT @ part.rows(start, stop, dtype)
            parts.append(y.mT)
        else:
            parts.append(torch.cat([part.rows(*block, dtype) @ given for block in part.blocks(dtype)], -2))
    return torch.cat(parts).reshape(x.shape).to(x.dtype)


def by_own_kernel(operator: Logits, transposed: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """A x or Aᵀ x of chosen heads by our own kernel, with what it takes prepared once.

    Returns:
        x (h, N, c) float32 and live (h,) bool → (h, N, c) float32, zeros where not live; leading dimensions flattened.
    """
    heads, n = operator.batch.numel(), operator.num_tokens
    q, k = (t.reshape(heads, n, -1) for t in (operator.q, operator.k))
    r = operator.log_normalisers(torch.float32).float().reshape(heads, n)
    bias = operator._bias_at(torch.float32)
    b = torch.zeros_like(r) if bias is None else -bias.float().expand(operator.shape[:-1]).reshape(heads, n)
    triangle = OPPOSITE[operator._triangle] if transposed else operator._triangle
    given = (k, q, r, b) if transposed else (q, k, b, r)
    return partial(kernels.exponential_product, *given, scale=operator.scale, triangle=triangle)


def _by_own_kernel(operator: Logits, x: Tensor, transposed: bool) -> Tensor:
    heads = operator.batch.numel()
    live = torch.ones(heads, dtype=torch.bool, device=operator.device)
    return by_own_kernel(operator, transposed)(x.reshape(heads, *x.shape[-2:]), live).reshape(x.shape)


def stored_in(operator: Logits, dtype: torch.dtype) -> Logits:
    """The same with queries and keys converted once, for many chunks."""
    if operator.q.dtype == dtype:
        return operator
    other = operator._like(lambda t: t)
    other.q, other.k = operator._qk(dtype)
    return other
