"""One step of a walk with a proof: Aᵀx in double precision, and what it may be off by of the chain asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from ...memory import free_bytes
from ...operators import Dense, Operator, QueryKey
from . import constants
from .batching import image_rounding

Exponent = Literal["single", "corrected", "double"]

UNIT, SINGLE = torch.finfo(torch.float64).eps / 2, torch.finfo(torch.float32).eps / 2  # u and u₃₂: half an eps
MARGIN = 1.01  # of the terms of second order
EXPONENTIAL = 4 * SINGLE  # 2 units in the last place: CUDA's expf, and what CPUs have is no worse
CURVED = 2e-11  # (88 u₃₂)² / 2, rounded up: what a correction of first order leaves of an exponent above −88
KNEE = math.exp(-2)  # p log² p is largest there
FAR = -200.0  # an exponent whose exponential is zero in single precision, and that can be subtracted


def certified_step(operator: Operator, x: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """Aᵀx in float64, and a proved bound of its ℓ1 error.

    Args:
        operator: (h, N, N).
        x: (h, N), or columns (h, N, c), in float64 and ≥ 0.
        tol: how large the bound may be for ‖x‖₁ = 1. What is cheapest of what meets it is done, or where nothing
            does, the best.

    Returns:
        y, shaped like x, and η, (h,) or (h, c), with ‖y − Aᵀx‖₁ ≤ η, where A is the chain in exact arithmetic: the
        softmax of the queries and keys that were given, or the stored weights.

    Queries, keys and weights are read by chunks of rows, so that nothing N × N is made. Logits are computed in
    double precision (an error of single precision in them is one of the chain, 1e-5 of a row where they reach 50). The
    exponential is taken of t = s − max s, in one of three ways, u and u₃₂ half the eps of double and single precision:

    ========= =============================================== =========================================
    way       computed                                        |δ_j|, ê_j = exp(t_j) (1 + δ_j)
    ========= =============================================== =========================================
    single    exp₃₂(fl₃₂(t))                                  a + 4 u₃₂ + u₃₂ |t_j|
    corrected exp₃₂(fl₃₂(t)) · (1 + (t − fl₃₂(t)))            a + 4 u₃₂ + 2e-11
    double    exp(t)                                          a
    ========= =============================================== =========================================

    with a from the logits, their bias and exp in double precision (``QueryKey.exponential_error``); 4 u₃₂ is 2 units
    in the last place of exp₃₂. Sums are taken in double precision in all of them.

    The proof, for one row with probabilities A_j. A factor that all of a row have in common drops out, since rows are
    divided by their own sum: Â_j = A_j (1 + δ_j) / (1 + D), D = Σ_j A_j δ_j, so that

        Σ_j |Â_j − A_j| = Σ_j A_j |δ_j − D| / (1 + D).

    The numerator is a seminorm of δ, and at most the root of Σ A δ² (a mean deviation is no more than a standard one,
    a variance no more than a second moment). The constant part of δ adds itself therefore, and u₃₂ |t_j| adds u₃₂ τ,
    τ = √(Σ_j A_j t_j²), which Z = Σ_j exp(t_j) alone bounds: with p_j = exp(t_j) ≤ 1, one of which is 1, it is
    √(Σ p_j log² p_j / Z) over the N − 1 others, and p log² p is below a concave function that grows, 4/e² from 1/e² on,
    so that the sum is at most (N − 1) times that function of the mean p̄ = (Z − 1)/(N − 1), by Jensen's inequality. τ
    is small for rows without spread and at most 6.4 over 4,608 tokens, 8.7 over 65,536; by row entropies,
    Σ_j A_j |δ_j − D| ≤ 2 Σ_j A_j |δ_j| and Σ_j A_j |t_j| ≤ H, it would be up to 2 log N = 17 and 22.

    Steps that underflow lose at most N times the least normal number, twice. Finally η = Σ_i x_i η_i, since
    ‖(Â − A)ᵀx‖₁ ≤ Σ_i x_i Σ_j |Â_ij − A_ij|, and sums of N numbers ≥ 0, of rows and over rows, are off by N u of
    themselves each.

    Stored weights are exact: in single precision divided by their sums in double, in double as they are. Other
    chains are asked for their own product (``operator.T @ x``) and ``row_error``.

    Sources: Higham, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2; what exp₃₂ may be off by:
    CUDA C++ programming guide, mathematical functions.
    """
    columns = x[..., None] if x.ndim == 2 else x
    if isinstance(operator, QueryKey):
        y, error = _by_exponentials(operator, columns, exponent(tol, operator.num_tokens))
    elif isinstance(operator, Dense):
        y, error = _by_weights(operator, columns)
    else:
        y = operator.T @ columns
        error = (operator.row_error(torch.float64) + image_rounding(operator))[:, None] * columns.sum(-2)
    return (y[..., 0], error[:, 0]) if x.ndim == 2 else (y, error)


def exponent(tol: float, n: int) -> Exponent:
    """The cheapest way that proves a step over n tokens to ``tol``, whatever the rows."""
    if MARGIN * (EXPONENTIAL + SINGLE * widest(n)) <= tol:
        return "single"
    return "corrected" if tol >= MARGIN * (EXPONENTIAL + CURVED) else "double"


def spread(sums: Tensor, n: int) -> Tensor:
    """A bound of τ, see ``certified_step``, from Z = Σ_j exp(t_j), off by 1e-3 of itself and 1e-6 at most."""
    others = max(n - 1, 1)
    share = sums.clamp(min=1.0).mul_(1.001).sub_(1.001 - 1e-6).div_(others).clamp_(1e-300, KNEE)  # p̄, or more
    return share.log().square_().mul_(share).mul_(others / 0.999).div_(sums.clamp(min=1.0)).sqrt_()


@cache
def widest(n: int) -> float:
    """The largest ``spread`` over n tokens, looked for on a grid: what a way of computing is chosen by, no proof."""
    others = max(n - 1, 1)
    shares = (others ** (-place / 64) for place in range(1, 97))
    return max(math.sqrt(others * min(p, KNEE) / (1 + others * p)) * -math.log(min(p, KNEE)) for p in shares)


def _by_exponentials(operator: QueryKey, x: Tensor, way: Exponent) -> tuple[Tensor, Tensor]:
    n = operator.num_tokens
    y, found = torch.zeros_like(x).mT.contiguous(), []
    for start, stop in chunks(operator):
        exponentials = _EXPONENTIALS[way](_shifted(operator.logits(start, stop, torch.float64)))
        sums = exponentials.sum(-1, keepdim=True)
        # a query that may attend to nothing leads nowhere; other sums are at least one
        weights = x[:, start:stop] / sums.clamp(min=0.5)
        y.baddbmm_(weights.mT, exponentials)
        found.append(sums)
    constant = operator.exponential_error(torch.float64)
    least = torch.finfo(torch.float64).tiny
    if way != "double":
        constant, least = constant + EXPONENTIAL + CURVED, torch.finfo(torch.float32).tiny
    constant = torch.expm1(MARGIN * constant).clamp(max=2.0) + 2 * n * least + _sums(n)
    whole = x.sum(-2)
    error = constant[:, None] * whole
    if way == "single":
        error = error + MARGIN * SINGLE * (x * spread(torch.cat(found, 1), n)).sum(-2)
    return y.mT, torch.minimum(error, 2 * whole)


def _by_weights(operator: Dense, x: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.zeros_like(x).mT.contiguous()
    divided = operator.dtype != torch.float64
    for start, stop in chunks(operator):
        rows, part = operator.weights[:, start:stop].double(), x[:, start:stop]
        y.baddbmm_((part / rows.sum(-1, keepdim=True) if divided else part).mT, rows)
    return y.mT, _sums(operator.num_tokens) * x.sum(-2)


def _sums(n: int) -> float:
    """Relative rounding of sums of N numbers in rows, and of those over N rows, with what they are multiplied by."""
    return MARGIN * (2 * n + 16) * UNIT


def chunks(operator: Operator) -> Iterator[tuple[int, int]]:
    """Ranges of rows of all heads that are read together in double precision; never all of them, but for one token."""
    n = operator.num_tokens
    row = max(1, operator.batch.numel()) * n * torch.float64.itemsize
    size = max(1, min(-(-n // 2), _room(operator.device) // row))
    return ((start, min(start + size, n)) for start in range(0, n, size))


def _room(device: torch.device) -> int:
    """Bytes of a chunk: what stays in a cache on a CPU; elsewhere few launches, beside two copies of it."""
    if device.type == "cpu":
        return constants.CERTIFY_BYTES
    free = free_bytes(device)
    most = constants.CERTIFY_BYTES_ON_DEVICE
    return most if free is None else min(most, free // 8)


def _shifted(logits: Tensor) -> Tensor:
    """t = s − max s in place; −∞ throughout for a row that is."""
    top = logits.amax(-1, keepdim=True)
    return logits.sub_(top.masked_fill_(top == -math.inf, 0.0))


def _single(t: Tensor) -> Tensor:
    return t.copy_(t.float().exp_())


def _corrected(t: Tensor) -> Tensor:
    t = t.clamp_(min=FAR)
    rounded = t.float()
    return t.sub_(rounded).add_(1.0).mul_(rounded.exp_())


_EXPONENTIALS: dict[Exponent, Callable[[Tensor], Tensor]] = {
    "single": _single,
    "corrected": _corrected,
    "double": torch.exp_,
}
