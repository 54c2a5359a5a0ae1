"""Fundamental matrix, applied to vectors without building it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .engine.refine import checked_effort
from .engine.sums import rounding
from .engine.transient import Solved, solve_transient
from .result import Result
from .support.irreducible import recurrent_token, require_unique


@dataclass(frozen=True, repr=False)
class Fundamental(Result):
    """Z x and its parts.

    Attributes:
        values: Z x, float64 (*batch, N, c), Z = (I − A + 1πᵀ)⁻¹.
        deviation: D x = Z x − 1 πᵀx, (*batch, N, c): Σ_t (Aᵗx − 1 πᵀx), how much more of x a walk from each token
            collects than a stationary one (a Cesàro limit if the chain is periodic). πᵀ D x = 0.
        mean: πᵀx, (*batch, c).
        certificate: ``residual`` is ‖(I − A) D x − x + 1 πᵀx‖∞ and ``error_bound`` bounds the largest error of
            an entry of ``values`` and of ``deviation``.
    """

    AXES = ("token", "column")
    OVER_TOKENS = (("values", -2), ("deviation", -2))
    LABELS = (("values", "Z x"),)

    values: Tensor
    deviation: Tensor
    mean: Tensor
    certificate: Certificate


def fundamental(operator: Operator, x: Tensor, tol: float = 1e-8, max_applies: int = 2000) -> Fundamental:
    """Z x for the fundamental matrix Z = (I − A + 1πᵀ)⁻¹ of Kemeny and Snell, and the deviation matrix Z − 1πᵀ.

    Args:
        operator: A, (*batch, N, N), one recurrent class a chain.
        x: (N, c) or (*batch, N, c).
        tol: error of ‖Zx‖∞ wanted, relative to max(1, ‖Zx‖∞).
        max_applies: attention applications allowed for each 16 columns of each of two solves.

    By regeneration at a recurrent token r, so that neither π nor a singular system is needed: with G = (I − Q)⁻¹ of
    the walk that ends at r, t = G 1 and a the r-th row of A, πᵀx = (x_r + aᵀGx)/(1 + aᵀt) is what a walk from r
    collects until it is back over how long that takes; z = Gx − t πᵀx solves (I − A) z = x − 1πᵀx; and
    D x = z − 1 πᵀz. Both solves are certified by ``solve_transient``, and so is the answer.

    Where numbers leave the range of float64 the whole answer of the chain is inf, and not converged.

    Raises:
        ChainError: a chain with several recurrent classes (its number is named), x of a shape that does not fit or
            with entries that are not finite, effort that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960), chapter 4.3; Meyer, "The role of the group generalized
    inverse in the theory of finite Markov chains" (1975) for D = (I − A)^#.
    """
    checked_effort(tol, max_applies)
    x = _checked(operator, x)
    require_unique(operator, "the fundamental matrix")
    at = torch.nn.functional.one_hot(recurrent_token(operator), operator.num_tokens).bool()[..., None]
    row = operator.T @ at[..., 0].double()
    # the errors below add up to a few times those of the solves
    first = solve_transient(operator, ~at[..., 0], x, tol / 8, max_applies)
    times, cycle = first.times[..., None], 1 + (row * first.times).sum(-1, keepdim=True)
    mean = ((x * at).sum(-2) + (row[..., None, :] @ first.values)[..., 0, :]) / cycle
    z = first.values - times * mean[..., None, :]
    known = torch.isfinite(z).all((-2, -1))
    z = torch.where(known[..., None, None], z, 0.0)
    second = solve_transient(operator, ~at[..., 0], z, tol / 8, max_applies)
    level = (row[..., None, :] @ second.values) / cycle[..., None]
    deviation = z - level
    values = deviation + mean[..., None, :]
    # of a product with the row: what the operator errs, and what the sum rounds off
    slip = operator.row_error(torch.float64) + rounding(operator.num_tokens)
    bound = _bound(first, second, mean, level[..., 0, :], cycle[..., 0], slip)
    residual = (deviation - operator @ deviation - x + mean[..., None, :]).abs().amax((-2, -1))
    known = known & torch.isfinite(values).all((-2, -1)) & torch.isfinite(residual)
    bound, residual = torch.where(known & ~bound.isnan(), bound, torch.inf), torch.where(known, residual, torch.inf)
    converged = torch.isfinite(bound) & (bound <= tol * values.abs().amax((-2, -1)).clamp(min=1))
    values, deviation = (torch.where(known[..., None, None], v, torch.inf) for v in (values, deviation))
    mean = torch.where(known[..., None], mean, torch.inf)
    spent, method = first.certificate.applies + second.certificate.applies + 3, first.certificate.method
    return Fundamental(
        values, deviation, mean, Certificate(converged, residual, bound, spent, method, about=operator.source)
    )


def _checked(operator: Operator, x: Tensor) -> Tensor:
    n = operator.num_tokens
    if x.ndim < 2 or x.shape[-2] != n or x.shape[:-2] not in ((), operator.batch) or not x.shape[-1]:
        raise ChainError(
            f"x has shape {tuple(x.shape)}, expected ({n}, c) or {(*operator.batch, n, 'c')}: vectors are columns"
        )
    x = x.to(operator.device, torch.float64)
    if not bool(torch.isfinite(x).all()):
        raise ChainError("x holds NaN or infinite entries, expected finite numbers")
    return x.expand(*operator.batch, *x.shape[-2:])


def _bound(first: Solved, second: Solved, mean: Tensor, level: Tensor, cycle: Tensor, slip: Tensor) -> Tensor:
    """Of the largest error of Zx and Dx, (*batch): the errors of the solves and of the row, carried through."""
    of_y, of_t, of_w = _error(first.certificate), _error(first.times_certificate), _error(second.certificate)
    collected, later = (solved.values.abs().amax((-2, -1)) for solved in (first, second))
    longest = first.times.amax(-1)
    of_cycle = of_t + slip * longest
    shortest, longest = (cycle - of_cycle).clamp(min=1), longest + of_t
    size, shift = mean.abs().amax(-1), level.abs().amax(-1)
    of_mean = (of_y + slip * collected + size * of_cycle) / shortest
    of_z = of_y + size * of_t + longest * of_mean
    of_level = (of_w + slip * later + shift * of_cycle) / shortest + of_z
    largest = collected + longest * size + shift + size
    return of_z + of_level + of_mean + rounding(first.times.shape[-1]) * largest


def _error(certificate: Certificate) -> Tensor:
    assert certificate.error_bound is not None
    return certificate.error_bound
