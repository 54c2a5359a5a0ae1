"""Transient tokens: x = Q x + b, what absorption, hitting times and the fundamental matrix come down to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...operators import Operator
from ..certificate import Certificate
from . import constants
from .batching import head_groups
from .elimination import eliminate
from .krylov import Apply
from .refine import Refined, by_gmres, refine
from .triangular import off_diagonal, solve_triangular

CAUGHT = 1e-304  # ways out of a token that sum to less count as none: times stay below the largest float64
ORDER = ("gmres", "substitution", "elimination")


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


def solve_transient(operator: Operator, alive: Tensor, b: Tensor, tol: float, max_applies: int) -> Solved:
    """Solve x = Q x + b with Q = D A D, D = diag(alive).

    Args:
        operator: A, (*batch, N, N).
        alive: bool (N,) or (*batch, N); from every token of it some path leads out of it (see ``reach``).
        b: (N, c) or (*batch, N, c); what lies off ``alive`` is ignored. If b ≥ 0 direct methods are accurate entry
            by entry.
        tol: bound of ‖x − exact‖∞ / max(1, ‖x‖∞) wanted, per head.
        max_applies: attention applications allowed for each 16 columns.

    The bound is proved, up to the rounding of a float64 dot product: with t ≈ (I − Q)⁻¹ 1 and m = min(t − Qt) > 0,
    t ≥ m (I − Q)⁻¹ 1, since I − Q is an M-matrix; hence ‖(I − Q)⁻¹‖∞ ≤ max t / m, the longest expected time to get
    out.

    Triangular chains are solved by substitution, small ones by elimination, both without subtractions; they
    count as converged also where ways out are so rare that the bound proves nothing, unless float64 cannot tell
    them from none (``times`` is then inf). Others by block GMRES with iterative refinement in float64; heads of up to
    4,096 tokens that have not converged after 128 applies are eliminated, larger ones reported as not converged.
    """
    n, columns, count = operator.num_tokens, b.shape[-1], math.prod(operator.batch)
    alive = alive.expand(*operator.batch, n).reshape(count, n)
    b = b.double().expand(*operator.batch, n, columns).reshape(count, n, columns)
    parts = []
    for heads, group in head_groups(operator, torch.float64):
        inside = alive[heads]
        rhs = torch.cat([inside[..., None].double(), b[heads]], -1)
        parts.append(_solve(group, inside, torch.where(inside[..., None], rhs, 0.0), tol, max_applies))
    x, size, residual, bound = (
        torch.cat([getattr(p, name) for p in parts]) for name in ("x", "size", "residual", "bound")
    )
    exact = torch.cat([p.exact for p in parts])
    applies, method = max(p.applies for p in parts), max((p.method for p in parts), key=ORDER.index)
    x = x.reshape(*operator.batch, n, 1 + columns)

    def certificate(part: slice) -> Certificate:
        worst_residual, worst_bound, largest = (
            _largest(v[:, part]).reshape(operator.batch) for v in (residual, bound, size)
        )
        near = torch.isfinite(worst_bound) & (worst_bound <= tol * largest.clamp(min=1))
        converged = near | exact.reshape(operator.batch)
        return Certificate(converged, worst_residual, worst_bound, applies, method)

    return Solved(x[..., 1:], x[..., 0], certificate(slice(1, None)), certificate(slice(0, 1)))


@dataclass(frozen=True)
class _Part:
    """A group's x (h, N, 1 + c), times first; |x|, residual and bound per column, (h, 1 + c); solved directly (h,)."""

    x: Tensor
    size: Tensor
    residual: Tensor
    bound: Tensor
    exact: Tensor
    applies: int
    method: str


def _solve(operator: Operator, alive: Tensor, rhs: Tensor, tol: float, max_applies: int) -> _Part:
    if operator.structure != "full":
        return _judged(operator, alive, rhs, _substituted(operator, alive, rhs), 1, "substitution")
    blocks = rhs.split(max(1, min(constants.SOLVE_WIDTH, operator.num_tokens)), -1)
    if operator.num_tokens <= min(constants.SOLVE_DIRECT * len(blocks), constants.SOLVE_STUBBORN):
        return _judged(operator, alive, rhs, _eliminated(operator, alive, rhs), 1, "elimination")
    if operator.num_tokens <= constants.SOLVE_STUBBORN:
        max_applies = min(max_applies, constants.SOLVE_PATIENCE)
    found, applies, stretch = [], 0, None
    for block in blocks:
        x, stretch, spent = _iterate(operator, alive, block, stretch, tol, max_applies)
        found.append(x)
        applies += spent
    answer = _judged(operator, alive, rhs, torch.cat(found, -1), applies + 1, "gmres")
    left = (answer.bound > tol * answer.size.clamp(min=1)).any(-1).nonzero()[:, 0]
    if len(left) and operator.num_tokens <= constants.SOLVE_STUBBORN:
        part, inside, wanted = operator.index(left), alive[left], rhs[left]
        direct = _judged(part, inside, wanted, _eliminated(part, inside, wanted), answer.applies + 1, "elimination")
        return _replaced(answer, left, direct)
    return answer


def _iterate(
    operator: Operator, alive: Tensor, rhs: Tensor, stretch: Tensor | None, tol: float, max_applies: int
) -> tuple[Tensor, Tensor, int]:
    """Block GMRES in the chain's precision, refined with residuals in float64, until the bound holds or stalls.

    ``stretch`` bounds ‖(I − Q)⁻¹‖∞, (h,); None for the block whose first column it comes from. Returns x, it
    and the applies.
    """
    # the bound multiplies the residual by the longest time out, so that two digits beyond tol are a start only
    solve = by_gmres(lambda heads: _among(operator, alive, heads), operator.dtype, 1e-2 * tol)

    def longest(answer: Refined) -> Tensor:
        return stretch_of(alive, answer.x[..., 0], answer.left[..., 0]) if stretch is None else stretch

    def settled(answer: Refined) -> Tensor:
        bound, size = _bounds(answer.x, answer.size, longest(answer))
        return (bound <= tol * size.clamp(min=1)).all(-1)

    answer = refine(
        solve(rhs, max(1, max_applies - 1)),
        solve,
        residual=lambda x: _left(operator, alive, rhs, x),
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


def _eliminated(operator: Operator, alive: Tensor, rhs: Tensor) -> Tensor:
    a = operator.to_dense(torch.float64)
    exits = torch.where(alive[:, None, :], 0.0, a).sum(-1)
    q = torch.where(alive[:, :, None] & alive[:, None, :], a, 0.0)
    # a token that is not walking leaves at once
    return eliminate(q, torch.where(alive, exits, 1.0), rhs)


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


def _left(operator: Operator, alive: Tensor, rhs: Tensor, x: Tensor) -> Tensor:
    """Qx + b − x, (h, N, c)."""
    return rhs + torch.where(alive[..., None], operator @ x, 0.0) - x


def rounding(n: int) -> float:
    """What a residual of numbers of size one, computed in float64, is off by: a dot product with a distribution."""
    return (8 + math.sqrt(n)) * torch.finfo(torch.float64).eps


def stretch_of(alive: Tensor, t: Tensor, left: Tensor) -> Tensor:
    """A bound of ‖(I − Q)⁻¹‖∞ from t ≈ (I − Q)⁻¹ 1 and left = 1 + Qt − t, (h,); inf if nothing can be proved."""
    longest = torch.where(alive, t, 0.0).amax(-1)
    drop = torch.where(alive, 1 - left, torch.inf).amin(-1) - rounding(alive.shape[-1]) * longest
    bound = torch.where(drop > 0, longest / drop.clamp(min=1e-300), torch.inf)
    return torch.where(alive.any(-1), bound, 0.0)  # nobody walks: x = 0


def _bounds(x: Tensor, residual: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
    """Of |x − exact|, (h, c), and |x|, (h, c)."""
    size = x.abs().amax(-2)
    room = residual + rounding(x.shape[-2]) * size
    return torch.where(room > 0, room * stretch[:, None], 0.0), size


def _judged(operator: Operator, alive: Tensor, rhs: Tensor, x: Tensor, applies: int, method: str) -> _Part:
    finite = torch.isfinite(x)
    left = _left(operator, alive, rhs, x.masked_fill(~finite, 0.0)).masked_fill(~finite, torch.inf)
    residual = left.abs().amax(-2)
    bound, size = _bounds(x, residual, stretch_of(alive, x[..., 0], left[..., 0]))
    exact = finite.all(-1).all(-1) if method != "gmres" else torch.zeros_like(alive[:, 0])
    return _Part(x, size, residual, bound, exact, applies, method)


def _replaced(whole: _Part, heads: Tensor, part: _Part) -> _Part:
    fields = {
        name: getattr(whole, name).index_copy(0, heads, getattr(part, name))
        for name in ("x", "size", "residual", "bound", "exact")
    }
    return _Part(**fields, applies=part.applies, method=part.method)


def _largest(per_column: Tensor) -> Tensor:
    return per_column.amax(-1) if per_column.shape[-1] else per_column.new_zeros(len(per_column))
