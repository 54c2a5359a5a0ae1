"""Elimination without subtractions (Grassmann, Taksar, Heyman): censored chains, solutions, stationary vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ChainError
from . import constants


@dataclass(frozen=True)
class Factors:
    """I − Q = S⁻¹ (D − V)(I − R), S = diag(2^−exponents)."""

    triangles: Tensor  # (h, M, M): −V below, D on and −R above the diagonal
    dead: Tensor  # bool (h, M): no way to a later state or out; the pivot then counts as one
    exponents: Tensor  # int (h, M): rows were divided by two to this power


def factors(q: Tensor, exits: Tensor) -> Factors:
    """Of Q (h, M, M) with exits (h, M), both ≥ 0 and in float64; the diagonal of Q is not read."""
    t = q.clone()
    t.diagonal(dim1=-2, dim2=-1).zero_()
    # rows to about one, without rounding: products of small numbers then underflow much later
    exponents = torch.frexp(t.sum(-1) + exits).exponent.clamp(max=0)
    t, out = shifted(t, -exponents[..., None]), shifted(exits, -exponents)
    dead = torch.zeros_like(out, dtype=torch.bool)
    _reduce(t, out, dead)
    return Factors(t, dead, exponents)


def _reduce(t: Tensor, out: Tensor, dead: Tensor) -> None:
    """Factors of the block t (h, m, m) in place; ``out`` (h, m) are the ways out of the block."""
    m = t.shape[-1]
    if m <= constants.ELIMINATION_LEAF:
        _reduce_one_by_one(t, out, dead)
        return
    half = constants.ELIMINATION_LEAF * -(-m // (2 * constants.ELIMINATION_LEAF))
    first, right, below, second = t[:, :half, :half], t[:, :half, half:], t[:, half:, :half], t[:, half:, half:]
    _reduce(first, out[:, :half] + right.sum(-1), dead[:, :half])
    rhs = torch.cat([right, out[:, :half, None]], -1)
    onward = torch.linalg.solve_triangular(first, rhs, upper=False)  # R of the right block, and out
    caught = dead[:, :half, None]
    onward[..., :-1].masked_fill_(caught, 0.0)
    onward[..., -1:].masked_fill_(caught, 1.0)  # who is caught there does not come back either
    v = torch.linalg.solve_triangular(first, below, upper=True, left=False, unitriangular=True)
    through = v @ onward
    second += through[..., :-1]
    right.copy_(-onward[..., :-1])
    below.copy_(-v)
    _reduce(second, out[:, half:] + through[..., -1], dead[:, half:])


def _reduce_one_by_one(t: Tensor, out: Tensor, dead: Tensor) -> None:
    m = t.shape[-1]
    w = torch.cat([t, out[..., None]], -1)
    pivots = []
    for k in range(m):
        row = w[:, k, k + 1 :]
        pivot = row.sum(-1, keepdim=True)
        caught = pivot < constants.TINY
        pivot = torch.where(caught, 1.0, pivot)
        row /= pivot
        row.masked_fill_(caught, 0.0)
        row[:, -1:].masked_fill_(caught, 1.0)
        w[:, k + 1 :, k + 1 :] += w[:, k + 1 :, k, None] * row[:, None]
        pivots.append(pivot)
        dead[:, k] = caught[:, 0]
    torch.neg(w[..., :m], out=t)
    t.diagonal(dim1=-2, dim2=-1).copy_(torch.cat(pivots, -1))


def shifted(x: Tensor, exponent: Tensor) -> Tensor:
    """x · 2^exponent in two steps, since a single factor may overflow."""
    half = torch.div(exponent, 2, rounding_mode="floor")
    return torch.ldexp(torch.ldexp(x, half), exponent - half)


LARGE = 2.0**900  # where a stationary vector starts: room below for entries that count for little


def eliminate(q: Tensor, exits: Tensor, b: Tensor) -> Tensor:
    """Solve x = Q x + b for a walk that ends: the smallest solution x ≥ 0, accurate entry by entry.

    Args:
        q: Q (*batch, M, M), ≥ 0, of the steps that go on. The diagonal is not read: a state stays with the
            probability that its other entries and its exit leave over.
        exits: probability of ending at the next step, (*batch, M), ≥ 0. Given and not computed, since 1 − Σ_j Q_ij
            would cancel.
        b: (*batch, M, c), ≥ 0: 1 for expected times, the steps into a target for probabilities of ending there.

    Returns:
        x (*batch, M, c) in float64. Every entry has a relative error of a few M · ε, however close to one the
        largest eigenvalue of Q is: only sums, products and quotients of non-negative numbers are taken.

        Where a walk can be caught in states without a way out, x is inf if b > 0 on some of them (it
        accumulates for ever); if b = 0 there they contribute nothing, so that probabilities are 0. Answers beyond
        the range of float64 are inf too. Never NaN. Ways out of a state that come to less than 2.2e-308 of what
        leaves it for other states count as none.

    I − Q = S⁻¹ (D − V)(I − R) with V strictly lower, R strictly upper, all ≥ 0, S powers of two and each pivot D_k
    the sum of the ways from state k to later states and out. (2/3) M³ + 2 M² c operations, in matrix products.

    Source: Grassmann, Taksar and Heyman, "Regenerative analysis and steady state distributions for Markov chains"
    (1985); error analysis: O'Cinneide, "Entrywise perturbation theory and error analysis for Markov chains" (1993).
    """
    m, c = b.shape[-2:]
    batch = torch.broadcast_shapes(q.shape[:-2], exits.shape[:-1], b.shape[:-2])
    q, exits, b = (t.double().expand(*batch, *t.shape[t.ndim - k :]) for t, k in ((q, 2), (exits, 1), (b, 2)))
    if q.numel() == 0 or b.numel() == 0:
        return b.clone()
    reduced = factors(q.reshape(-1, m, m), exits.reshape(-1, m))
    rhs = shifted(b.reshape(-1, m, c), -reduced.exponents[..., None])
    z = torch.linalg.solve_triangular(reduced.triangles, rhs, upper=False)
    x = torch.linalg.solve_triangular(reduced.triangles, z, upper=True, unitriangular=True)
    if bool((reduced.dead[..., None] & (z > 0)).any()) or not bool(torch.isfinite(x).all()):
        x = _row_by_row(reduced, rhs)
    return x.reshape(*batch, m, c)


def stochastic_complement(a: Tensor, keep: Tensor) -> Tensor:
    """A_SS + A_SR (I − A_RR)⁻¹ A_RS: the chain watched only while it is on the kept states S.

    Args:
        a: (*batch, N, N), ≥ 0, rows summing to one.
        keep: S, bool (N,) or indices; the result follows the order of the indices.

    Returns:
        (*batch, |S|, |S|) in float64, accurate entry by entry. A row sums to less than one by the probability that
        the walk never comes back to S.

    Source: Meyer, "Stochastic complementation, uncoupling Markov chains, and the theory of nearly reducible
    systems" (1989).
    """
    n = a.shape[-1]
    kept = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
    removed = torch.ones(n, dtype=torch.bool, device=a.device)
    removed[kept] = False
    rest = removed.nonzero()[:, 0]
    a = a.double()
    there, back = a[..., kept, :][..., rest], a[..., rest, :][..., kept]
    returns = eliminate(a[..., rest, :][..., rest], back.sum(-1), back)
    return a[..., kept, :][..., kept] + there @ returns


def stationary_by_elimination(a: Tensor) -> Tensor:
    """π of chains with one recurrent class, accurate entry by entry down to the smallest numbers.

    Args:
        a: (*batch, N, N), ≥ 0, rows summing to one; the diagonal is not read.

    Returns:
        π (*batch, N) in float64. Entries have a relative error of a few N · ε whatever the conditioning, transient
        states are exactly 0, and periodic chains need no care. About (2/3) N³ operations a chain.

    Raises:
        ChainError: some chain has several closed classes, or its classes are joined by products of probabilities
            below 2.2e-308, so that float64 cannot tell.

    Source: Grassmann, Taksar and Heyman (1985), in halves and batched.
    """
    pi, decided = try_stationary(a)
    if not bool(decided.all()):
        chain = decided.logical_not().nonzero()[0].tolist()
        raise ChainError(
            f"chain {chain} has more than one closed class as far as float64 can tell, so that its stationary vector "
            "is not unique; expected an irreducible chain; take stationary_distributions(...) for all of them"
        )
    return pi


def try_stationary(a: Tensor) -> tuple[Tensor, Tensor]:
    """π (*batch, N), and whether elimination could decide it, bool (*batch); see ``stationary_by_elimination``."""
    n = a.shape[-1]
    flat = a.double().reshape(-1, n, n)
    reduced = factors(flat, flat.new_zeros(flat.shape[:-1]))
    last = torch.zeros_like(reduced.dead)
    last[:, -1] = True
    start = last.double() * LARGE
    # π (D − V) = 0 but for the last state, whose pivot counts as one
    pi = torch.linalg.solve_triangular(reduced.triangles, start[:, None], upper=False, left=False)[:, 0]
    decided = torch.ones_like(last[:, 0])
    if not bool((reduced.dead == last).all()) or not bool(torch.isfinite(pi).all()):
        pi, decided = _state_by_state(reduced)
    mantissa, exponent = torch.frexp(pi)
    exponent = torch.where(pi > 0, exponent - reduced.exponents, -(2**20))  # a row divided by 2^e counts 2^-e times
    pi = torch.ldexp(mantissa, exponent - exponent.amax(-1, keepdim=True))
    pi = pi / pi.sum(-1, keepdim=True)
    return pi.reshape(a.shape[:-1]), decided.reshape(a.shape[:-2])


def _row_by_row(reduced: Factors, rhs: Tensor) -> Tensor:
    """Both substitutions where entries may be infinite, with 0 · ∞ = 0."""
    t, x = reduced.triangles, rhs.clone()
    m = x.shape[-2]
    for k in range(m):
        if k:
            x[:, k] += extended(-t[:, k : k + 1, :k], x[:, :k])[:, 0]
        for_ever = torch.where(x[:, k] > 0, torch.inf, 0.0)
        x[:, k] = torch.where(reduced.dead[:, k, None], for_ever, x[:, k] / t[:, k, k, None])
    for k in reversed(range(m - 1)):
        x[:, k] += extended(-t[:, k : k + 1, k + 1 :], x[:, k + 1 :])[:, 0]
    return x


def extended(weights: Tensor, x: Tensor) -> Tensor:
    """Products of non-negative matrices, x with infinite entries, 0 · ∞ = 0."""
    endless = torch.isinf(x)
    if not bool(endless.any()):
        return weights @ x
    reached = (weights > 0).to(x.dtype) @ endless.to(x.dtype) > 0
    return torch.where(reached, torch.inf, weights @ x.masked_fill(endless, 0.0))


def _state_by_state(reduced: Factors) -> tuple[Tensor, Tensor]:
    """π by back substitution that never overflows, and whether it was decided, (h, N) and bool (h,)."""
    t, dead = reduced.triangles, reduced.dead
    n = t.shape[-1]
    pi = torch.zeros_like(t[:, 0])
    pi[:, -1] = LARGE
    decided = torch.ones_like(dead[:, 0])
    for k in reversed(range(n - 1)):
        inflow = -(pi[:, k + 1 :] * t[:, k + 1 :, k]).sum(-1)
        # nothing leaves k for a later state: all the mass of the later ones ends here, if any comes
        takes_all = dead[:, k] & (inflow > 0)
        decided &= ~dead[:, k] | takes_all
        room = LARGE * t[:, k, k]
        shrink = torch.where(inflow > room, room / inflow, 1.0).masked_fill(takes_all, 0.0)
        pi[:, k + 1 :] *= shrink[:, None]
        pi[:, k] = torch.where(takes_all | (inflow > room), LARGE, inflow / t[:, k, k]).masked_fill(
            dead[:, k] & ~takes_all, 0.0
        )
    return pi, decided
