"""Transient tokens: x = Q x + b, what absorption, hitting times and the fundamental matrix come down to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...operators import Dense, Operator
from ...progress import track
from ..certificate import Certificate
from . import constants
from .batching import told_groups
from .by_lu import solve_by_lu
from .elimination import eliminate
from .killed import Answer, Killed, Reach, bounds, judged, steps_kept
from .krylov import Apply
from .refine import Refined, by_gmres, refine
from .sums import rounding
from .triangular import has_rows, off_diagonal, solve_triangular

CAUGHT = 1e-304  # ways out of a token that sum to less count as none: times stay below the largest float64
ORDER = ("gmres", "substitution", "lu", "elimination")


@dataclass(frozen=True)
class Solved:
    """The solution of x = Q x + b, and how long the walk goes on.

    Attributes:
        values: x, (*batch, N, c) in float64; zero off the walking tokens.
        times: t = (I − Q)⁻¹ 1, the expected number of steps until the walk is out, (*batch, N).
        certificate: of ``values``: ``residual`` is ‖Qx + b − x‖∞, ``error_bound`` bounds ‖x − exact‖∞.
        times_certificate: of ``times``, likewise.
    """

    values: Tensor
    times: Tensor
    certificate: Certificate
    times_certificate: Certificate


def solve_transient(
    operator: Operator, alive: Tensor, b: Tensor, tol: float, max_applies: int, entering: bool = False
) -> Solved:
    """Solve x = Q x + b with Q = D A D, D = diag(alive).

    Args:
        operator: A, (*batch, N, N).
        alive: bool (N,) or (*batch, N); from every token of it some path leads out of it (see ``reach``).
        b: (N, c) or (*batch, N, c); what lies off ``alive`` is ignored. If b ≥ 0 direct methods are accurate entry
            by entry.
        tol: bound of ‖x − exact‖∞ / max(1, ‖x‖∞) wanted, per head; where b ≥ 0 and the chain is factored, of the
            relative error of every entry.
        max_applies: attention applications allowed for each 16 columns.
        entering: whether b is y of A y, with 0 ≤ y ≤ 1, in the place of b: probabilities of steps of this operator,
            whose errors are then errors of b.

    The bound is proved: with t ≈ (I − Q)⁻¹ 1 and m = min(t − Qt) > 0, t ≥ m (I − Q)⁻¹ 1, since I − Q is an M-matrix;
    hence ‖(I − Q)⁻¹‖∞ ≤ max t / m, the longest expected time to get out. It holds for the chain that was asked for:
    m is less by η max t, and Qx is off by η ‖x‖∞, where η bounds the errors of a row of the operator; and by what
    rounding may hide in either.

    Triangular chains are solved by substitution and small ones by elimination, both without subtractions. Up to
    4,096 tokens by LU, one head at a time, where that proves enough, and by elimination where it does not: those that
    are nearly reducible. Direct answers count as converged also where ways out are so rare that the bound proves
    nothing, unless float64 cannot tell them from none (``times`` is then inf), or the operator's own errors may be
    more than ``tol``. Larger chains by block GMRES with iterative refinement in float64.
    """
    n, columns, count = operator.num_tokens, b.shape[-1], math.prod(operator.batch)
    alive = alive.expand(*operator.batch, n).reshape(count, n)
    b = b.double().expand(*operator.batch, n, columns).reshape(count, n, columns)
    flat = operator.reshape(count)
    into = torch.cat([torch.zeros_like(b[..., :1]), b], -1) if entering else None
    steps = flat @ b if entering else b
    rhs = torch.cat([alive[..., None].double(), steps], -1).masked_fill(~alive[..., None], 0.0)
    rows, entries = flat.row_error(torch.float64), flat.entry_error(torch.float64)
    asked = Killed(flat, alive, rhs, rows, entries, into, tol, kept=entries == 0)
    answer = Answer.joined(list(_answers(asked, max_applies)), ORDER)
    x = answer.x.reshape(*operator.batch, n, 1 + columns)

    def certificate(part: slice) -> Certificate:
        residual, bound, size = (_largest(v[:, part]) for v in (answer.residual, answer.bound, answer.size))
        near = torch.isfinite(bound) & (bound <= tol * size.clamp(min=1))
        converged, residual, bound = (v.reshape(operator.batch) for v in (near | answer.direct, residual, bound))
        return Certificate(converged, residual, bound, answer.applies, answer.method, about=operator.source)

    return Solved(x[..., 1:], x[..., 0], certificate(slice(1, None)), certificate(slice(0, 1)))


def _answers(asked: Killed, max_applies: int) -> Iterator[Answer]:
    """In the order of the heads, a group at a time."""
    operator, n = asked.operator, asked.operator.num_tokens
    blocks = -(-asked.rhs.shape[-1] // constants.SOLVE_WIDTH)
    full = operator.structure == "full"
    if full and constants.SOLVE_SMALL < n <= min(constants.SOLVE_DIRECT * blocks, constants.SOLVE_STUBBORN):
        yield _factored(asked)
        return
    for heads, group in told_groups(operator, torch.float64, "ends of walks"):
        part = _materialised(asked.index(heads), group)
        if not full and has_rows(part.operator):
            yield judged(part, _substituted(part.operator, part.alive, part.rhs), 1, "substitution")
        elif n <= constants.SOLVE_SMALL:
            yield judged(part, _eliminated(part), 1, "elimination")
        else:
            yield _iterated(part, max_applies)


def _materialised(asked: Killed, group: Operator) -> Killed:
    """The same with its operator in memory, if it is, where steps that are lost are seen."""
    kept = asked.kept
    if isinstance(group, Dense) and not bool(kept.all()):
        kept = kept | steps_kept(asked.operator, group.weights)
    # what was built is not what products take to the last digit: all has to be of one of them
    return replace(asked.of(group) if group is not asked.operator else asked, kept=kept)


def _factored(asked: Killed) -> Answer:
    """By LU, a few heads at a time so that they stay in cache; by elimination where that proves too little."""
    few, heads = constants.SOLVE_BYTES // (8 * asked.operator.num_tokens**2), torch.arange(len(asked.alive))
    found, enough = zip(*map(_by_lu, _dense(asked, heads.to(asked.alive.device), few)), strict=True)
    answer, left = Answer.joined(found, ORDER), torch.cat(enough).logical_not().nonzero()[:, 0]
    if not len(left):
        return answer
    parts = [judged(part, _eliminated(part), 2, "elimination") for part in _dense(asked, left, few)]
    return answer.replaced(left, Answer.joined(parts, ORDER))


def _dense(asked: Killed, heads: Tensor, few: int) -> Iterator[Killed]:
    """Some heads in memory, a few at a time."""
    parts = heads.split(max(1, few))
    for some in parts if len(heads) < 2 else track(parts, "ends of walks of heads", len(heads), counts=len):
        first, last = int(some[0]), int(some[-1])
        part = asked.index(slice(first, last + 1) if last - first < len(some) else some)  # no copy where there is none
        yield _materialised(part, Dense(part.operator.to_dense(torch.float64)))


def _by_lu(asked: Killed) -> tuple[Answer, Tensor]:
    """Of heads in memory, and whether LU is enough for each: for every entry where b ≥ 0, else for the largest."""
    a, rhs, tol = asked.operator.to_dense(), asked.rhs, asked.tol
    found = solve_by_lu(a, asked.alive, rhs, asked.entry_error, asked.entering)
    signed, size, largest = (rhs < 0).any(-2), found.x.abs().amax(-2), found.error.amax(-2)
    enough = torch.where(signed, largest <= tol * size.clamp(min=1), (found.error <= tol * found.x).all(-2))
    proved = (enough & torch.isfinite(size)).all(-1)
    summed = rounding(a.shape[-1]) * size if asked.entering else torch.zeros_like(size)  # of b ≥ 0
    fields = {
        "x": found.x,
        "size": size,
        "residual": found.left.abs().amax(-2),
        "applied": largest + summed,
        "bound": found.asked.amax(-2) + summed,
        "direct": proved & (asked.lasting() <= tol),
    }
    return Answer(**fields, applies=1, method="lu"), proved


def _iterated(asked: Killed, max_applies: int) -> Answer:
    """By block GMRES, some columns at a time; heads that do not converge are factored while that is worth while."""
    n = asked.operator.num_tokens
    if n <= constants.SOLVE_STUBBORN:
        max_applies = min(max_applies, constants.SOLVE_PATIENCE)
    found, applies, reach, width = [], 0, None, max(1, min(constants.SOLVE_WIDTH, n))
    for start in range(0, asked.rhs.shape[-1], width):
        some = asked.columns(slice(start, start + width))
        x, reach, spent = _iterate(some, reach, max_applies)
        found.append(x)
        applies += spent
    answer = judged(asked, torch.cat(found, -1), applies + 1, "gmres")
    left = (answer.applied > asked.tol * answer.size.clamp(min=1)).any(-1).nonzero()[:, 0]
    if not len(left) or n > constants.SOLVE_STUBBORN:
        return answer
    direct = _factored(asked.index(left))
    return answer.replaced(left, replace(direct, applies=answer.applies + direct.applies))


def _iterate(asked: Killed, reach: Reach | None, max_applies: int) -> tuple[Tensor, Reach, int]:
    """Block GMRES in the chain's precision, refined with residuals in float64, until the bound holds or stalls.

    ``reach`` is None for the block whose first column it comes from. Returns x, it and the applies.
    """
    alive, unit, tol = asked.alive, asked.unit(), asked.tol
    # the bound multiplies the residual by the longest time out, so that two digits beyond tol are a start only
    solve = by_gmres(lambda heads: _among(asked.operator, alive, heads), asked.operator.dtype, 1e-2 * tol)

    def longest(answer: Refined) -> Reach:
        return reach or Reach.of(asked, answer.x[..., 0], answer.left[..., 0], unit)

    def settled(answer: Refined) -> Tensor:
        applied, _ = bounds(asked, answer.x, answer.size, longest(answer), unit)
        return (applied <= tol * answer.x.abs().amax(-2).clamp(min=1)).all(-1)

    answer = refine(
        solve(asked.rhs, max(1, max_applies - 1)),
        solve,
        residual=asked.left,
        settled=settled,
        max_applies=max_applies,
        norm=lambda left: left.abs().amax(-2),
        accept=lambda x: torch.where(alive[..., None], x, 0.0),
    )
    return answer.x, longest(answer), answer.applies


def _among(operator: Operator, alive: Tensor, heads: Tensor) -> Apply:
    """x ↦ Q x for some of the heads."""
    part = operator if len(heads) == operator.shape[0] else operator.index(heads)
    inside = alive[heads][..., None].to(part.dtype)
    return lambda x: inside * (part @ (inside * x))


def _eliminated(asked: Killed) -> Tensor:
    a, alive = asked.operator.to_dense(torch.float64), asked.alive
    exits = torch.where(alive[:, None, :], 0.0, a).sum(-1)
    q = torch.where(alive[:, :, None] & alive[:, None, :], a, 0.0)
    # a token that is not walking leaves at once
    return eliminate(q, torch.where(alive, exits, 1.0), asked.rhs)


def _substituted(operator: Operator, alive: Tensor, rhs: Tensor) -> Tensor:
    """Of a triangular chain.

    Pivots 1 − A_ii are taken as the sum of the row's other entries, so that nothing cancels where a token attends
    almost only to itself; with b ≥ 0 all of x is accurate entry by entry. Where float64 has no way out of a token,
    x is inf on it and on all that lead to it if b ≠ 0 there; if b = 0 it contributes nothing.
    """
    pivots = torch.full(alive.shape, torch.inf, dtype=rhs.dtype, device=rhs.device)

    def ways_out(rows: Tensor, part: slice) -> Tensor:
        here = off_diagonal(rows[..., part]).sum(-1)
        sums = rows[..., : part.start].sum(-1) + here + rows[..., part.stop :].sum(-1)
        pivots[:, part] = torch.where(alive[:, part] & (sums >= CAUGHT), sums, torch.inf)
        return pivots[:, part]

    x = solve_triangular(operator, ways_out, rhs)
    caught = alive & pivots.isinf()
    if not bool(caught.any()):
        return x
    endless = (caught[..., None] & (rhs != 0)).to(rhs.dtype)
    leads_there = solve_triangular(operator, pivots, operator @ endless) + endless
    return x.masked_fill(leads_there > 0, torch.inf)


def _largest(per_column: Tensor) -> Tensor:
    return per_column.amax(-1) if per_column.shape[-1] else per_column.new_zeros(len(per_column))
