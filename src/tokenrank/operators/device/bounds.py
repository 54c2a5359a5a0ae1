"""How far off products on the device path may be: proved, whichever way they are taken."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from .. import rounding
from ..logits import Logits
from . import kernels
from .fused import QUICK
from .halves import HALVES
from .scaled import LEAST, Way, Weighted
from .ways import Apart, at_least_single, normaliser_dtype, own_kernel, way_of


def entry_error(operator: Logits, dtype: torch.dtype) -> Tensor:
    """As ``Operator.entry_error``, of whichever way products in ``dtype`` are taken."""
    wide = at_least_single(dtype)
    error = operator._own_error(wide)  # of rows
    if dtype == torch.float64 or operator.mask is not None:
        return error
    if own_kernel(operator, dtype, False):
        one = operator._exponential_error(operator._largest_logit(wide), wide) + normaliser_error(operator, wide)
        # probabilities and x are split in high and low parts. The lost part of a term is of both, half LOST each: x_i
        # times that, and p_i times that of the largest x. Over all terms no more than N LOST of the norm of x
        split = kernels.SPLIT + operator.num_tokens * kernels.LOST
        return torch.maximum(error, 2 * (one + split + operator._bias_error(wide)))
    for way in get_args(Way):
        taken = way_of(operator, way, dtype, False)
        if isinstance(taken, Apart):
            return taken.each(lambda part, _: entry_error(part, dtype))
        if taken is not None:
            error = torch.maximum(error, _error_of(operator, way, taken))
    return error


def normaliser_error(operator: Logits, dtype: torch.dtype) -> Tensor:
    """What ``log_normalisers(dtype)`` may be off by, (*batch,)."""
    wide = at_least_single(dtype)
    size = operator._largest_logit(wide)
    if wide == torch.float32 and operator.mask is None:
        taken = way_of(operator, "ahead", normaliser_dtype(operator), False)
        if isinstance(taken, Apart):
            return taken.each(lambda part, _: normaliser_error(part, dtype))
        size = size if taken is None else torch.maximum(size, taken.size)
    # sums of exponentials, and twice more in the mean of factors
    own = operator._exponential_error(size, wide) + operator._sum_error(wide) + 4 * rounding.half_eps(wide)
    return 3 * own + operator._bias_error(wide)


def _error_of(operator: Logits, way: Way, taken: Weighted) -> Tensor:
    """Of an entry of A in products by attention with weights of keys."""
    wide, half, size = torch.float32, taken.q.dtype, torch.maximum(taken.size, operator._largest_product())
    one, sums, bias = operator._exponential_error(size, wide), operator._sum_error(wide), operator._bias_error(wide)
    # where something was absorbed, the queries were rounded once more
    one = one + 2 * rounding.half_eps(half) * torch.where(taken.size > operator._largest_product(), size, 0.0)
    # exponentials and the sums that kernels divide them by, of the answer and of the factors' mean; factors
    error = 2 * (2 * one + 2 * sums + bias + 16 * rounding.half_eps(wide))
    if half in HALVES:  # exponentials and what the kernel puts out are rounded, for the factors' mean as well
        error = error + rounding.MARGIN * (6 * rounding.half_eps(half) + 6 * QUICK)
    # entries that underflow, over a row of A, by what they are multiplied with afterwards
    if way == "back":
        assert taken.after is not None
        # no mean, but the sums of columns and of rows, all of which keeping the mass may double
        error = error + 2 * (one + normaliser_error(operator, wide))
        lost = taken.after[..., 0].double().sum(-1)
    elif taken.after is None:
        lost = torch.full_like(error, operator.num_tokens)
    else:
        lost = operator.num_tokens * taken.after[..., 0].double().amax(-1)
    return error + 2 * LEAST[half] * lost
