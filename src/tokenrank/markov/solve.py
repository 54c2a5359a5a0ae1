"""x = Q x + b on the tokens that are still walking: what absorption, hitting times and censoring come down to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Operator
from .batching import head_groups
from .certificate import Certificate
from .elimination import eliminate
from .gmres import gmres, largest_entry
from .krylov import Apply
from .substitution import substitute_killed

DIRECT = 256  # up to so many tokens elimination costs no more than iterating
STUBBORN = 1536  # and up to so many it is worth while for heads that do not converge
WIDTH = 15  # right-hand sides taken together, beside the one that proves the bound
ORDER = ("gmres", "substitution", "elimination")


@dataclass(frozen=True)
class Solved:
    """x (*batch, N, c) in float64 and what it is worth."""

    values: Tensor
    certificate: Certificate


def solve_killed(operator: Operator, alive: Tensor, b: Tensor, tol: float, max_applies: int) -> Solved:
    """Solve x = Q x + b with Q = D A D, D = diag(alive).

    Args:
        operator: A, (*batch, N, N).
        alive: bool (*batch, N); from every token of it some path leads out of it (see ``reach``).
        b: (*batch, N, c) in float64, ≥ 0; what lies off ``alive`` is ignored.
        tol: bound of ‖x − exact‖∞ / max(1, ‖x‖∞) wanted, per head.
        max_applies: attention applications allowed for each 15 columns.

    Returns:
        x, zero off ``alive``. The certificate's ``residual`` is ‖Qx + b − x‖∞ and ``error_bound`` bounds
        ‖x − exact‖∞, both over all columns.

    The bound is proved: with t ≈ (I − Q)⁻¹ 1 and m = min(t − Qt) > 0, t ≥ m (I − Q)⁻¹ 1, since I − Q is an
    M-matrix; hence ‖(I − Q)⁻¹‖∞ ≤ max t / m, which is the longest expected time to get out.

    Triangular chains are solved by substitution, small ones by elimination without subtractions, both accurate
    entry by entry; they count as converged also where leaks are so small that the bound proves nothing.
    Others by block GMRES with iterative refinement in float64; heads that do not converge are eliminated where they
    fit (``STUBBORN``), and reported as not converged otherwise.
    """
    columns = b.shape[-1]
    alive = alive.expand(operator.shape[:-1]).reshape(-1, operator.num_tokens)
    b = b.double().expand(*operator.shape[:-1], columns).reshape(-1, operator.num_tokens, columns)
    b = torch.where(alive[..., None], b, 0.0)
    parts = [
        _group(group, alive[heads], b[heads], tol, max_applies) for heads, group in head_groups(operator, torch.float64)
    ]
    values = torch.cat([p.values for p in parts]).reshape(*operator.shape[:-1], columns)
    converged, residual, bound = (
        torch.cat([f(p.certificate) for p in parts]).reshape(operator.batch)
        for f in (lambda c: c.converged, lambda c: c.residual, lambda c: c.error_bound)
    )
    method = max((p.certificate.method for p in parts), key=ORDER.index)
    applies = max(p.certificate.applies for p in parts)
    return Solved(values, Certificate(converged, residual, bound, applies, method))


def _group(operator: Operator, alive: Tensor, b: Tensor, tol: float, max_applies: int) -> Solved:
    n = operator.num_tokens
    rhs = torch.cat([b, alive[..., None].double()], -1)
    if operator.structure != "full":
        return _judged(operator, alive, rhs, substitute_killed(operator, alive, rhs), tol, 1, "substitution")
    if n <= DIRECT:
        return _judged(operator, alive, rhs, _eliminated(operator, alive, rhs), tol, 1, "elimination")
    parts = [
        _iterate(operator, alive, torch.cat([part, rhs[..., -1:]], -1), tol, max_applies)
        for part in b.split(WIDTH, -1) or (b,)
    ]
    worst = parts[0].certificate
    for part in parts[1:]:
        worst = _worse(worst, part.certificate)
    values = torch.cat([p.values for p in parts], -1)
    stubborn = (~worst.converged).nonzero()[:, 0]
    if len(stubborn) and n <= STUBBORN:
        part = operator.index(stubborn)
        found = _eliminated(part, alive[stubborn], rhs[stubborn])
        exact = _judged(part, alive[stubborn], rhs[stubborn], found, tol, worst.applies + 1, "elimination")
        values[stubborn] = exact.values
        worst = _replaced(worst, stubborn, exact.certificate)
    return Solved(values, worst)


def _iterate(operator: Operator, alive: Tensor, rhs: Tensor, tol: float, max_applies: int) -> Solved:
    """Block GMRES in the chain's precision, refined with residuals in float64, until the bound holds or stalls."""
    work = operator.dtype
    x = torch.zeros_like(rhs)
    missing, applies = rhs, 0
    best = torch.full_like(rhs[:, 0, 0], torch.inf)
    while True:
        scale = missing.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        # the bound multiplies the residual by the longest time out, so that two digits beyond tol are a start only
        wanted = torch.full_like(best, max(1e-2 * tol, 100 * torch.finfo(work).eps)).to(work)
        d, _, spent = gmres(
            lambda heads: _killed(operator, alive, heads), (missing / scale).to(work), wanted,
            max(1, max_applies - applies - 1), largest_entry,
        )  # fmt: skip
        trial = x + scale * d.double()
        left = rhs + torch.where(alive[..., None], operator.matmul(trial), 0.0) - trial
        applies += spent + 1
        size = left.abs().amax((-2, -1))
        better = size < best
        x = torch.where(better[:, None, None], trial, x)
        missing = torch.where(better[:, None, None], left, missing)
        progress = size < 0.5 * best
        best = torch.minimum(size, best)
        answer = _judge(alive, x, missing, tol, applies, "gmres", rounding=_rounding(operator, x))
        if bool((answer.certificate.converged | ~progress).all()) or applies + 2 > max_applies:
            return answer


def _killed(operator: Operator, alive: Tensor, heads: Tensor) -> Apply:
    part = operator if len(heads) == operator.shape[0] else operator.index(heads)
    inside = alive[heads][..., None].to(part.dtype)
    return lambda x: inside * part.matmul(inside * x)


def _eliminated(operator: Operator, alive: Tensor, rhs: Tensor) -> Tensor:
    a = operator.to_dense(torch.float64)
    exits = torch.where(alive[:, None, :], 0.0, a).sum(-1)
    q = torch.where(alive[:, :, None] & alive[:, None, :], a, 0.0)
    # a token that is not walking leaves at once
    return eliminate(q, torch.where(alive, exits, 1.0), rhs)


def _judged(operator: Operator, alive: Tensor, rhs: Tensor, x: Tensor, tol: float, applies: int, method: str) -> Solved:
    left = rhs + torch.where(alive[..., None], operator.matmul(x), 0.0) - x
    answer = _judge(alive, x, left, tol, applies, method, rounding=_rounding(operator, x))
    exact = torch.isfinite(x).all(-1).all(-1)
    c = answer.certificate
    return Solved(answer.values, Certificate(exact, c.residual, c.error_bound, applies, method))


def _rounding(operator: Operator, x: Tensor) -> Tensor:
    """What a residual computed in float64 may be off by, (h,): a dot product of weights that sum to one."""
    return 8 * torch.finfo(torch.float64).eps * x.abs().amax((-2, -1))


def _judge(alive: Tensor, x: Tensor, left: Tensor, tol: float, applies: int, method: str, rounding: Tensor) -> Solved:
    values, t = x[..., :-1], x[..., -1]
    residual = left[..., :-1].abs().amax((-2, -1)) if values.shape[-1] else torch.zeros_like(rounding)
    # t − Qt = 1 − left on the walking tokens
    drop = torch.where(alive, 1 - left[..., -1], torch.inf).amin(-1) - rounding
    longest = torch.where(alive, t, 0.0).amax(-1)
    bound = torch.where(drop > 0, (residual + rounding) * longest / drop.clamp(min=1e-300), torch.inf)
    bound = torch.where(alive.any(-1), bound, 0.0)  # nobody walks: x = 0
    size = values.abs().amax((-2, -1)).clamp(min=1) if values.shape[-1] else torch.ones_like(rounding)
    return Solved(values, Certificate(bound <= tol * size, residual, bound, applies, method))


def _worse(a: Certificate, b: Certificate) -> Certificate:
    assert a.error_bound is not None
    assert b.error_bound is not None
    return Certificate(
        a.converged & b.converged,
        torch.maximum(a.residual, b.residual),
        torch.maximum(a.error_bound, b.error_bound),
        a.applies + b.applies,
        a.method,
    )


def _replaced(whole: Certificate, heads: Tensor, part: Certificate) -> Certificate:
    assert whole.error_bound is not None
    assert part.error_bound is not None
    return Certificate(
        whole.converged.index_copy(0, heads, part.converged),
        whole.residual.index_copy(0, heads, part.residual),
        whole.error_bound.index_copy(0, heads, part.error_bound),
        part.applies,
        part.method,
    )
