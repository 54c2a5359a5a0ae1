"""The stationary vector of irreducible chains: eliminated where that can be had, and what is known of it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..operators import Dense, Operator
from .engine import constants
from .engine.batching import image, image_rounding
from .engine.doeblin import doeblin
from .engine.elimination import bounded_stationary, eliminate
from .engine.fixed_point import iterate
from .lambda2 import lambda2

ORDER = ("none", "substitution", "power", "gmres", "elimination")
LITTLE = 1e-3  # an answer that may be off by more than this is called uncertain
GAP_ERROR = 5e-4  # what |λ2| may be off by without being called uncertain
RARE = 1e-120  # steps that are left out to bound what they do: products of others do not underflow


@dataclass(frozen=True)
class Recurrent:
    """π (h, M) of irreducible chains.

    Attributes:
        values: π in float64.
        residual: ‖πᵀA − πᵀ‖₁ in float64, (h,).
        bound: proved, of ‖π − exact‖₁, (h,); inf where there is none.
        uncertain: the answer may be off by more than ``LITTLE``, as far as is known: no bound says otherwise, and no
            estimate of the gap, bool (h,).
        applies: attention applications spent.
        method: what found it.
    """

    values: Tensor
    residual: Tensor
    bound: Tensor
    uncertain: Tensor
    applies: int
    method: str

    @classmethod
    def joined(cls, parts: Sequence[Recurrent]) -> Recurrent:
        """Of chains that were answered one after the other."""
        values, residual, bound, uncertain = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("values", "residual", "bound", "uncertain")
        )
        method = max((p.method for p in parts), key=ORDER.index)
        return cls(values, residual, bound, uncertain, max(p.applies for p in parts), method)


def stationary_of(
    operator: Operator, entry_error: Tensor, lost: Tensor, start: Tensor, tol: float, max_applies: int
) -> Recurrent:
    """π of every chain of a batch (h, M, M) without transient states.

    Args:
        operator: (h, M, M), weights in float64 or a chain that is never built.
        entry_error: |log| of what its entries are off by, besides a factor for every row, (h,).
        lost: bool (h,), whether steps that are possible have no normal number in float64. Nothing is proved then.
        start: where iterating begins, (h, M).
        tol: residual that is iterated to.
        max_applies: attention applications allowed.

    Up to ``constants.CLASS_DIRECT`` tokens by elimination, exact entry by entry however small the gap 1 − |λ2| is.
    Beyond, iterating has a residual only. The error is up to residual / (1 − Doeblin's coefficient), which is proved,
    and about residual / (1 − |λ2|). Where the former proves too little, up to ``constants.CLASS_STUBBORN`` tokens
    are eliminated after all; beyond those the latter is looked at.
    """
    m = operator.num_tokens
    if m <= constants.CLASS_DIRECT:
        answer = _eliminated(operator, entry_error, lost)
        left = answer.residual.isinf().nonzero()[:, 0]  # float64 cannot tell: see stationary_by_elimination
        if not len(left):
            return answer
        again = _iterated(operator.index(left), entry_error[left], start[left], tol, max_applies)
        return _replaced(answer, left, again)
    budget = max_applies if m > constants.CLASS_STUBBORN else min(max_applies, constants.CLASS_PATIENCE)
    answer = _iterated(operator, entry_error, start, tol, budget)
    left = (~(answer.bound <= LITTLE) | (answer.residual > tol)).nonzero()[:, 0]
    if not len(left):
        return answer
    part = operator.index(left)
    if m <= constants.CLASS_STUBBORN:
        return _replaced(answer, left, _eliminated(part, entry_error[left], lost[left]))
    slow = lambda2(part)
    gap = 1 - slow.values.double().reshape(-1) - GAP_ERROR
    room = answer.residual[left] + image_rounding(part) + entry_error[left]
    known = (gap > 0) & (room <= LITTLE * gap) & ~slow.certificate.uncertain.reshape(-1)
    uncertain = answer.uncertain.index_copy(0, left, ~known)
    return replace(answer, uncertain=uncertain, applies=answer.applies + slow.certificate.applies)


def lost_steps(source: Operator, dense: Tensor) -> Tensor:
    """Whether steps that are possible in a chain (h, N, N) are no normal numbers in float64, bool (h,).

    Args:
        source: what is asked about. Stored weights are what they are, so that nothing of them is lost.
        dense: the same as a matrix in float64.
    """
    none = torch.zeros(len(dense), dtype=torch.bool, device=dense.device)
    if isinstance(source, Dense) or bool((dense >= constants.LOST).all()):
        return none
    tiny = (dense < constants.LOST) & source.support()
    tiny.diagonal(dim1=-2, dim2=-1).zero_()  # who stays is not counted among the steps
    return tiny.flatten(1).any(-1)


def lost_in_rows(source: Operator) -> Tensor:
    """The same of a chain (h, N, N) that is not built, by blocks of its rows."""
    lost = torch.zeros(source.shape[0], dtype=torch.bool, device=source.device)
    if isinstance(source, Dense):
        return lost
    possible = source.support()
    places = torch.arange(source.num_tokens, device=source.device)
    for start, stop in source.blocks(torch.float64):
        tiny = (source.rows(start, stop, torch.float64) < constants.LOST) & possible[..., start:stop, :]
        lost |= (tiny & (places[start:stop, None] != places)).flatten(1).any(-1)
    return lost


def _eliminated(operator: Operator, entry_error: Tensor, lost: Tensor) -> Recurrent:
    few = max(1, constants.ELIMINATION_BYTES // (8 * operator.num_tokens**2))
    heads = torch.arange(operator.shape[0], device=operator.device).split(few)
    parts = [_eliminated_few(operator.index(h), entry_error[h], lost[h]) for h in heads]
    return Recurrent.joined(parts)


def _eliminated_few(operator: Operator, entry_error: Tensor, lost: Tensor) -> Recurrent:
    a = operator.to_dense(torch.float64)
    values, decided, bound = bounded_stationary(a, entry_error)
    residual = torch.where(decided, residual_of(operator, values), torch.inf)
    bound = torch.where(lost, torch.inf, bound)
    left = (decided & ~(bound <= LITTLE)).nonzero()[:, 0]
    if len(left):
        common = _by_what_is_common(operator.index(left), residual[left], entry_error[left])
        bound[left] = torch.minimum(common, _without_rare_steps(a[left], values[left], entry_error[left]))
    return Recurrent(values, residual, bound, ~(bound <= LITTLE), 1, "elimination")


def _without_rare_steps(a: Tensor, pi: Tensor, entry_error: Tensor) -> Tensor:
    """A bound of ‖π − exact‖₁, (h,), where numbers are too small for ``bounded_stationary``, or lost.

    Of A'', in which steps below ``RARE`` stay where they are. Let E = A − A'' and D be the deviation matrix of A'':
    π(A) − π(A'') = π(A) E D, and ‖D_i − D_r‖₁ ≤ 2 E_i[T_r], with T_r the time at which the walk comes to r, so that
    they are apart by 4 N RARE max_i E_i[T_r] at most. Times are eliminated, too, and trusted to a factor of two.

    Source: Meyer, "The role of the group generalized inverse in the theory of finite Markov chains" (1975).
    """
    n = a.shape[-1]
    goal = pi.argmax(-1)
    # where most of the mass is last, so that all states lead to later ones
    order = torch.arange(n, device=a.device).repeat(len(a), 1)
    order[:, -1] = goal
    order.scatter_(1, goal[:, None], n - 1)
    kept = torch.where(a < RARE, 0.0, a)
    kept = kept.gather(1, order[..., None].expand_as(a)).gather(2, order[:, None].expand_as(a))
    found, decided, bound = bounded_stationary(kept, entry_error)
    q, exits = kept[:, :-1, :-1], kept[:, :-1, -1]
    times = eliminate(q, exits, torch.ones_like(exits)[..., None])[..., 0].amax(-1) if n > 1 else bound
    moved = 8 * n * RARE * (times + 1)
    apart = (found - pi.gather(1, order)).abs().sum(-1)
    return torch.where(decided & (moved < 1), bound + moved + apart, torch.inf)


def _iterated(operator: Operator, entry_error: Tensor, start: Tensor, tol: float, max_applies: int) -> Recurrent:
    target = torch.full_like(entry_error, tol)
    found = iterate(operator, 1.0, torch.zeros_like(start), target, max_applies, start)
    residual = residual_of(operator, found.values)
    bound = _by_what_is_common(operator, residual, entry_error)
    return Recurrent(found.values, residual, bound, ~(bound <= LITTLE), found.applies + 1, found.method)


def _by_what_is_common(operator: Operator, residual: Tensor, entry_error: Tensor) -> Tensor:
    """A bound of ‖π − exact‖₁ from its residual, (h,): one step forgets what all rows have in common (Doeblin)."""
    m = operator.num_tokens
    rounding = image_rounding(operator) + torch.expm1(entry_error) + m * constants.TINY
    common = 1 - doeblin(operator) - rounding - m * torch.finfo(torch.float64).eps
    bound = (residual + rounding) / common.clamp(min=constants.TINY)
    return torch.where((common > 0) & (bound < 2), bound, torch.inf)  # 2 holds of any two distributions


def residual_of(operator: Operator, values: Tensor) -> Tensor:
    """‖πᵀA − πᵀ‖₁ in float64, (h,)."""
    return (image(operator, values[..., None])[..., 0] - values).abs().sum(-1)


def _replaced(whole: Recurrent, heads: Tensor, part: Recurrent) -> Recurrent:
    """The answer of some heads, where more is known of it, or as much and its residual is smaller."""
    old_bound, old_residual = whole.bound[heads], whole.residual[heads]
    better = (part.bound < old_bound) | (~(old_bound < part.bound) & (part.residual < old_residual))
    heads = heads[better]

    def changed(name: str) -> Tensor:
        old: Tensor = getattr(whole, name)
        return old.index_copy(0, heads, getattr(part, name)[better])

    return Recurrent(
        changed("values"),
        changed("residual"),
        changed("bound"),
        changed("uncertain"),
        whole.applies + part.applies,
        part.method if len(heads) else whole.method,
    )
