"""Elimination without subtractions (Grassmann, Taksar, Heyman): censored chains, solutions, stationary vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import ChainError, which_chain
from . import constants


@dataclass(frozen=True)
class Factors:
    """I − Q = S⁻¹ (D − V)(I − R), S = diag(2^−exponents)."""

    triangles: Tensor  # (h, M, M): −V below, D on and −R above the diagonal
    dead: Tensor  # bool (h, M): no way to a later state or out; the pivot then counts as one
    exponents: Tensor  # int (h, M): rows were divided by two to this power


def factors(q: Tensor, exits: Tensor) -> Factors:
    """Of Q (h, M, M) with exits (h, M), both ≥ 0 and in float64; the diagonal of Q is not read."""
    t = torch.cat([q, exits[..., None]], -1)
    t[..., :-1].diagonal(dim1=-2, dim2=-1).zero_()
    # rows to about one, without rounding: products of small numbers then underflow much later
    exponents = torch.frexp(t.sum(-1)).exponent.clamp(max=0)
    if bool(exponents.any()):
        t = shifted(t, -exponents[..., None])
    dead = torch.zeros(t.shape[:-1], dtype=torch.bool, device=t.device)
    _reduce(t, dead)
    return Factors(t[..., :-1], dead, exponents)


def _reduce(t: Tensor, dead: Tensor) -> None:
    """Factors of the rows t (h, m, w) in place: the block of m states, what they lead to later, and the way out.

    Rows are kept at their full width, so that a pivot is the sum of the very entries that it divides: the errors of
    ``stationary_error`` rest on that.
    """
    m = t.shape[-2]
    if m <= constants.ELIMINATION_LEAF:
        _reduce_one_by_one(t, dead)
        return
    half = constants.ELIMINATION_LEAF * -(-m // (2 * constants.ELIMINATION_LEAF))
    first, second = t[:, :half], t[:, half:]
    _reduce(first, dead[:, :half])
    v = torch.linalg.solve_triangular(first[..., :half], second[..., :half], upper=True, left=False, unitriangular=True)
    second[..., half:].baddbmm_(v, first[..., half:], alpha=-1)
    torch.neg(v, out=second[..., :half])
    _reduce(second[..., half:], dead[:, half:])


def _reduce_one_by_one(t: Tensor, dead: Tensor) -> None:
    for k in range(t.shape[-2]):
        row, below = t[:, k, k + 1 :], t[:, k + 1 :, k]
        pivot = row.sum(-1, keepdim=True)
        caught = pivot < constants.TINY
        pivot = torch.where(caught, 1.0, pivot)
        row /= -pivot
        row.masked_fill_(caught, 0.0)
        row[:, -1:].masked_fill_(caught, -1.0)  # who is caught there does not come back either
        t[:, k + 1 :, k + 1 :].addcmul_(below[..., None], row[:, None], value=-1)
        below.neg_()
        t[:, k, k], dead[:, k] = pivot[:, 0], caught[:, 0]


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
    batch = np.broadcast_shapes(q.shape[:-2], exits.shape[:-1], b.shape[:-2])
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
            f"{which_chain(chain, decided.shape)} has more than one closed class as far as float64 can tell, so that "
            "its stationary vector is not unique; expected an irreducible chain; take stationary_distributions(...) "
            "for all of them"
        )
    return pi


def try_stationary(a: Tensor) -> tuple[Tensor, Tensor]:
    """π (*batch, N), and whether elimination could decide it, bool (*batch); see ``stationary_by_elimination``."""
    n = a.shape[-1]
    flat = a.double().reshape(-1, n, n)
    pi, decided, _ = _stationary(factors(flat, flat.new_zeros(flat.shape[:-1])))
    return pi.reshape(a.shape[:-1]), decided.reshape(a.shape[:-2])


def bounded_stationary(a: Tensor, entry_error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """π (h, N), whether it was decided, bool (h,), and a proved bound of ‖π − exact‖₁, (h,), inf where there is none.

    Args:
        a: (h, N, N) in float64, of which every step that is possible is a normal number.
        entry_error: |log| of what the entries may be off by, besides a factor for every row, (h,).

    The bound is that of ``stationary_error``, which asks that nothing underflows: that products of two factors stay
    far from the smallest numbers.
    """
    reduced = factors(a, a.new_zeros(a.shape[:-1]))
    pi, decided, wide = _stationary(reduced)
    t = reduced.triangles.abs()
    smallest = torch.where(t > 0, t, torch.inf).amin((-2, -1))
    sound = decided & wide & (smallest > UNDERFLOWS)
    return pi, decided, torch.where(sound, stationary_error(a.shape[-1], entry_error), torch.inf)


UNDERFLOWS = 1e-140  # products of factors above are normal numbers, to far more digits than float64 has


def stationary_error(n: int, entry_error: Tensor) -> Tensor:
    """A bound of ‖π − exact‖₁ for elimination of chains of n states, shaped like ``entry_error``; inf where large.

    Let a^k be the chain of states k, k + 1, … as it is after k steps without rounding in what has been computed, and
    u = ε/2. Step k takes sums of at most k products (entries of row and column k), one of n − k entries (the pivot) and
    two quotients: relatively, a^(k+1) is within η = (n + 2k + 7) u of the censored chain of a^k, entry by entry,
    since all numbers are ≥ 0. An entry of π is a sum over trees, products of m − 1 entries of the chain of m states
    divided by the sum of all of these, so that the logarithms of two entries of π move apart by 2 (m − 1) η at most
    (entry errors of A itself likewise); substitution adds 2 (2n + 5) u a state. All in all they are apart by
    d ≤ (5/3 n³ + 12 n²) u + 2 (n − 1) · entry error, and distributions whose ratios differ by a factor e^d at most
    have a distance of 2 tanh(d/4) ≤ d/2 in ℓ1.

    Source: O'Cinneide, "Entrywise perturbation theory and error analysis for Markov chains" (1993), for the trees and
    the steps; the constants are ours.
    """
    u = torch.finfo(torch.float64).eps / 2
    bound = float(n) ** 2 * (n + 8) * u + n * entry_error
    return torch.where(bound < 0.01, bound, torch.inf)  # beyond, terms of second order count


def _stationary(reduced: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """π (h, N), whether it was decided, and whether nothing underflowed on the way, bool (h,)."""
    last = torch.zeros_like(reduced.dead)
    last[:, -1] = True
    start = last.double() * LARGE
    # π (D − V) = 0 but for the last state, whose pivot counts as one
    pi = torch.linalg.solve_triangular(reduced.triangles, start[:, None], upper=False, left=False)[:, 0]
    decided = torch.ones_like(last[:, 0])
    wide = torch.where(pi > 0, pi, torch.inf).amin(-1) > UNDERFLOWS
    if not bool((reduced.dead == last).all()) or not bool(torch.isfinite(pi).all()):
        wide = wide & (reduced.dead == last).all(-1) & torch.isfinite(pi).all(-1)
        pi, decided = _state_by_state(reduced)
    mantissa, exponent = torch.frexp(pi)
    exponent = torch.where(pi > 0, exponent - reduced.exponents, -(2**20))  # a row divided by 2^e counts 2^-e times
    pi = torch.ldexp(mantissa, exponent - exponent.amax(-1, keepdim=True))
    return pi / pi.sum(-1, keepdim=True), decided, wide


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
